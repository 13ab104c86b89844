package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// Paths of the lists, for List and All.
const (
	PathStatus        = "/api/v1/status"
	PathNodes         = "/api/v1/nodes"
	PathGroups        = "/api/v1/groups"
	PathClients       = "/api/v1/clients"
	PathSessions      = "/api/v1/sessions"
	PathSubscriptions = "/api/v1/subscriptions"
	PathRetained      = "/api/v1/retained"
	PathMessages      = "/api/v1/messages"
)

// maxPage is the most items that the server puts into a page.
const maxPage = 1000

// Status asks what the cluster is.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, PathStatus) }

// Node asks for one member.
func (c *Client) Node(ctx context.Context, id string) (Node, error) {
	return get[Node](ctx, c, One(PathNodes, id))
}

// Session asks for one session, with its details.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	return get[Session](ctx, c, One(PathSessions, id))
}

// Publish publishes a message and returns when it is committed.
func (c *Client) Publish(ctx context.Context, m Message) (Published, error) {
	return decode[Published](c.Raw(ctx, http.MethodPost, PathMessages, nil, m))
}

// Health asks one probe: livez, readyz or startupz. The answer of a failing
// probe is not an error.
func (c *Client) Health(ctx context.Context, probe string) (Health, error) {
	return get[Health](ctx, c, "/"+probe)
}

// One is the path of one thing of a list: the id becomes one segment.
func One(list, id string) string { return list + "/" + url.PathEscape(id) }

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return decode[T](c.Raw(ctx, http.MethodGet, path, nil, nil))
}

func decode[T any](raw []byte, err error) (T, error) {
	var out T
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("read the answer: %w", err)
	}
	return out, nil
}

// All joins the pages of a list until limit items (0: all of them). The items
// stay as the server sent them.
func (c *Client) All(ctx context.Context, path string, query url.Values, limit int) (List[json.RawMessage], error) {
	out := List[json.RawMessage]{Items: []json.RawMessage{}, Meta: Meta{Limit: limit}}
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	for {
		want := maxPage
		if limit > 0 {
			want = min(want, limit-len(out.Items))
		}
		q.Set("limit", strconv.Itoa(want))
		page, err := decode[List[json.RawMessage]](c.Raw(ctx, http.MethodGet, path, q, nil))
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, page.Items...)
		out.Meta.NextCursor, out.Meta.CountHint = page.Meta.NextCursor, page.Meta.CountHint
		if page.Meta.NextCursor == "" || (limit > 0 && len(out.Items) >= limit) {
			return out, nil
		}
		if page.Meta.NextCursor == q.Get("cursor") {
			return out, errors.New("the server repeats a page of the list")
		}
		q.Set("cursor", page.Meta.NextCursor)
	}
}

// Items decodes the items of a joined list.
func Items[T any](list List[json.RawMessage]) ([]T, error) {
	out := make([]T, len(list.Items))
	for i, raw := range list.Items {
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			return nil, fmt.Errorf("read item %d of the answer: %w", i, err)
		}
	}
	return out, nil
}
