package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// kickMany disconnects all clients that --filter selects. done is false if the command
// names one client.
func (ad *admin) kickMany(ctx context.Context) (done bool, err error) {
	filters := ad.c.StringSlice("filter")
	switch {
	case len(filters) == 0 && ad.c.NArg() == 1:
		for _, only := range []string{"rate", "dry-run", "wait"} {
			if ad.c.IsSet(only) {
				return true, usagef("--%s goes with --filter", only)
			}
		}
		return false, nil
	case len(filters) == 0:
		return true, &codedError{code: exitUsage, err: fmt.Errorf("%s needs a client ID, or --filter", ad.c.Command.HelpName), usage: ad.c.Command.HelpName}
	case ad.c.NArg() > 0:
		return true, usagef("name a client, or --filter, not both")
	}
	req := client.KickClients{Filter: map[string]string{}}
	for _, f := range filters {
		k, v, ok := strings.Cut(f, "=")
		if !ok || k == "" {
			return true, usagef("--filter %q: want FIELD=VALUE", f)
		}
		if _, twice := req.Filter[k]; twice {
			return true, usagef("--filter %s is given twice: a client has one %s", k, k)
		}
		req.Filter[k] = v
	}
	var rate config.Rate
	if err := rate.UnmarshalText([]byte(ad.c.String("rate"))); err != nil || rate <= 0 {
		return true, usagef("--rate %s: want a rate such as 100/s", ad.c.String("rate"))
	}
	req.Rate = float64(rate)
	code, err := strconv.ParseUint(ad.c.String("reason-code"), 0, 8)
	if err != nil || code < 0x80 || code > 0xa2 {
		return true, usagef("--reason-code %s: want a code of DISCONNECT from 0x80 to 0xa2", ad.c.String("reason-code"))
	}
	req.ReasonCode = int(code)
	return true, ad.kickAll(ctx, req)
}

func (ad *admin) kickAll(ctx context.Context, req client.KickClients) error {
	q := url.Values{}
	what := strings.Join(ad.c.StringSlice("filter"), ", ")
	if ad.c.Bool("dry-run") {
		q.Set("dry_run", "true")
	} else if err := ad.confirm(fmt.Sprintf("Disconnect all clients with %s?", what)); err != nil {
		return err
	}
	raw, err := ad.api.Raw(ctx, http.MethodPost, client.PathKick, q, req)
	if err != nil {
		return err
	}
	var op client.Operation
	if err := json.Unmarshal(raw, &op); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if ad.c.Bool("dry-run") {
		return ad.changed(raw, nil, op.Progress+"; nothing was changed")
	}
	if err := ad.operation(ctx, op, nil, "clients with "+what+" kicked", "clients with "+what+" are being kicked"); err != nil {
		return err
	}
	return nil
}
