package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// commonFlags are on every command that calls the API, before or after its name.
func commonFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "endpoint", Aliases: []string{"e"}, Value: client.DefaultEndpoint, Usage: "admin `URL[,URL...]`, tried in order"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table, wide, json, yaml or name"},
		&cli.StringFlag{Name: "timeout", Value: "10s", Usage: "give up after this `TIME`"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print results only"},
		&cli.BoolFlag{Name: "debug", Usage: "print the equivalent curl command"},
		&cli.BoolFlag{Name: "no-color", Usage: "never colour (also with NO_COLOR)"},
	}, credentialFlags()...)
}

// listFlags are on every list.
func listFlags(extra ...cli.Flag) []cli.Flag {
	flags := append(commonFlags(),
		&cli.IntFlag{Name: "limit", Value: 1000, Usage: "print at most `N` items; 0 prints all"},
		&cli.StringFlag{Name: "sort", Usage: "sort by this `FIELD` of the JSON; -FIELD sorts the other way round"},
		&cli.BoolFlag{Name: "no-headers", Usage: "print no titles"},
		&cli.BoolFlag{Name: "stale", Usage: "let one node answer by itself, without a majority"},
		&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "print it again and again: in place on a terminal, else what changes"},
		&cli.StringFlag{Name: "interval", Value: watchEvery, Usage: "how often to look, with --watch: a `TIME`"},
	)
	return append(flags, extra...)
}

// selectFlag is --filter of the lists that have no topic filter of their own.
func selectFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "filter", Usage: "only items whose JSON `FIELD=VALUE`; may be repeated"}
}

// admin is one call of a command at the API.
type admin struct {
	app    *app
	c      *cli.Context
	api    *client.Client
	format string
	// Of what is drawn on a terminal by way of a buffer: with colours, and so wide.
	painted bool
	columns int
}

// admin builds the client from the common flags.
func (a *app) admin(c *cli.Context) (*admin, error) {
	timeout, err := config.ParseDuration(c.String("timeout"))
	if err != nil || timeout == 0 {
		return nil, usagef("--timeout: %q is not a time above 0, for example 10s", c.String("timeout"))
	}
	format := c.String("output")
	if !strings.Contains(" table wide json yaml name ", " "+format+" ") {
		return nil, usagef("--output %s: use table, wide, json, yaml or name", format)
	}
	opt := client.Options{Endpoints: strings.Split(c.String("endpoint"), ","), Timeout: timeout, Credentials: credentials(c)}
	if c.Bool("debug") {
		opt.Debug = func(curl string) { fmt.Fprintln(a.errOut, curl) }
	}
	api, err := client.New(opt)
	if err != nil {
		return nil, err
	}
	return &admin{app: a, c: c, api: api, format: format}, nil
}

// call is the action of a leaf that calls the API.
func (a *app) call(least, most int, fn func(ctx context.Context, ad *admin) error) cli.ActionFunc {
	return action(least, most, func(c *cli.Context) error {
		ad, err := a.admin(c)
		if err != nil {
			return err
		}
		defer ad.api.CloseIdle()
		return fn(c.Context, ad)
	})
}

// colour says whether to colour the output.
func (ad *admin) colour() bool {
	return ad.painted || !ad.c.Bool("no-color") && os.Getenv("NO_COLOR") == "" && terminal(ad.app.out)
}

// query are the parameters that lists have in common.
func (ad *admin) query() url.Values {
	q := url.Values{}
	if ad.c.Bool("stale") {
		q.Set("consistency", "stale")
	}
	return q
}

// list fetches, selects and sorts a list, as raw items.
func (ad *admin) list(ctx context.Context, path string, q url.Values) (client.List[json.RawMessage], error) {
	limit := ad.c.Int("limit")
	if limit < 0 {
		return client.List[json.RawMessage]{}, usagef("--limit %d: use a number from 0", limit)
	}
	selected := selections(ad.c)
	ask := limit
	if len(selected) > 0 || ad.c.String("sort") != "" {
		ask = 0 // what is selected from and sorted is the whole list
	}
	list, err := ad.api.All(ctx, path, q, ask)
	if err != nil {
		return list, err
	}
	if list.Items, err = selectItems(list.Items, selected); err != nil {
		return list, err
	}
	if field := ad.c.String("sort"); field != "" {
		if err := sortItems(list.Items, field); err != nil {
			return list, err
		}
	}
	if limit > 0 && len(list.Items) > limit {
		list.Items = list.Items[:limit]
	}
	if list.Meta.NextCursor != "" && !ad.c.Bool("quiet") && ad.format != "json" && ad.format != "yaml" {
		fmt.Fprintf(ad.app.errOut, "flotilla: there are more than %d items: --limit 0 prints all\n", limit)
	}
	list.Meta.Limit = limit
	return list, nil
}

// selections are the FIELD=VALUE of --filter; other commands have a topic
// filter of that name.
func selections(c *cli.Context) []string {
	if _, ok := c.Value("filter").(cli.StringSlice); !ok {
		return nil
	}
	return c.StringSlice("filter")
}

func selectItems(items []json.RawMessage, selected []string) ([]json.RawMessage, error) {
	for _, s := range selected {
		field, want, ok := strings.Cut(s, "=")
		if !ok || field == "" {
			return nil, usagef("--filter %q: want FIELD=VALUE", s)
		}
		kept := make([]json.RawMessage, 0, len(items))
		for _, raw := range items {
			got, known, err := fieldOf(raw, field)
			if err != nil {
				return nil, err
			}
			if !known {
				return nil, usagef("--filter %s: items have no field %q", s, field)
			}
			if got == want {
				kept = append(kept, raw)
			}
		}
		items = kept
	}
	return items, nil
}

func sortItems(items []json.RawMessage, field string) error {
	field, backwards := strings.CutPrefix(field, "-")
	type keyed struct {
		text string
		num  float64
		raw  json.RawMessage
	}
	all := make([]keyed, len(items))
	for i, raw := range items {
		text, known, err := fieldOf(raw, field)
		if err != nil {
			return err
		}
		if !known {
			return usagef("--sort %s: items have no such field", field)
		}
		all[i] = keyed{text: text, raw: raw}
		if err := json.Unmarshal([]byte(text), &all[i].num); err != nil {
			all[i].num = 0 // not a number: the text decides
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].num != all[j].num {
			return all[i].num < all[j].num
		}
		return all[i].text < all[j].text
	})
	if backwards {
		slices.Reverse(all)
	}
	for i := range all {
		items[i] = all[i].raw
	}
	return nil
}

// fieldOf returns a member of an object as text; strings without quotes.
func fieldOf(raw json.RawMessage, field string) (text string, known bool, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return "", false, fmt.Errorf("read the answer: %w", err)
	}
	v, known := object[field]
	if json.Unmarshal(v, &text) == nil && text != "" {
		return text, known, nil
	}
	return strings.Trim(string(v), `"`), known, nil
}
