package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// watchEvery is the default of --interval.
const watchEvery = "2s"

// screen redraws a terminal in place, and leaves it as it was.
type screen struct {
	out     io.Writer
	size    func() (columns, rows int)
	resized <-chan os.Signal
	stop    func()
}

// openScreen takes the terminal over until close.
func openScreen(out *os.File, in any) *screen {
	s := &screen{out: out, size: func() (int, int) { return windowSize(out) }}
	restore := func() {}
	if f, ok := in.(*os.File); ok {
		restore = hideInput(f)
	}
	var stop func()
	s.resized, stop = windowChanges()
	// Another screen, so that what stood there before comes back; no cursor; no wrapping.
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l\x1b[?7l")
	s.stop = func() {
		stop()
		fmt.Fprint(out, "\x1b[?7h\x1b[?25h\x1b[?1049l")
		restore()
	}
	return s
}

func (s *screen) close() { s.stop() }

// draw shows as much of a text as there is room for.
func (s *screen) draw(text string) error {
	_, rows := s.size()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if rows > 1 && len(lines) > rows {
		more := len(lines) - rows + 1
		lines = append(lines[:rows-1], fmt.Sprintf("... %d more lines: make the window larger, or use --limit", more))
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(s.out, b.String())
	return err
}

// watching calls look at once, after every interval, and when the window changes, until
// ctx ends. redrawn says that nothing has to be asked again.
func (ad *admin) watching(ctx context.Context, resized <-chan os.Signal, look func(ctx context.Context, redrawn bool) error) error {
	every, err := config.ParseDuration(ad.c.String("interval"))
	if err != nil || every < 100*time.Millisecond {
		return usagef("--interval %s: want a time of at least 100ms", ad.c.String("interval"))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for redrawn := false; ; {
		if err := look(ctx, redrawn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			redrawn = false
		case <-resized:
			redrawn = true
		}
	}
}

// buffered is a call whose output goes elsewhere.
func (ad *admin) buffered(b *bytes.Buffer, columns int) *admin {
	a := *ad.app
	a.out = b
	out := *ad
	out.app, out.painted, out.columns = &a, ad.colour(), columns
	return &out
}

// watchList prints a list again and again: in place on a terminal, else what changed.
func watchList[T any](ctx context.Context, ad *admin, fetch func(context.Context) (client.List[json.RawMessage], error), name func(T) string, cols []column[T]) error {
	out, ok := ad.app.out.(*os.File)
	if !ok || !terminal(out) || ad.format == "json" || ad.format == "yaml" || ad.format == "name" {
		return watchChanges(ctx, ad, fetch, name, cols)
	}
	s := openScreen(out, ad.app.in)
	defer s.close()
	body, failed := "", ""
	return ad.watching(ctx, s.resized, func(ctx context.Context, redrawn bool) error {
		if !redrawn {
			list, err := fetch(ctx)
			failed = ""
			if err != nil {
				if exitCode(err) == exitUsage || ctx.Err() != nil {
					return err
				}
				failed = firstLine(err)
			} else {
				var b bytes.Buffer
				columns, _ := s.size()
				if err := printList(ad.buffered(&b, columns), list, name, cols); err != nil {
					return err
				}
				body = b.String()
			}
		}
		head := time.Now().Format("15:04:05") + "  " + ad.c.Command.HelpName
		if failed != "" {
			head += "\nNO ANSWER, what follows is old: " + failed
		}
		return s.draw(head + "\n\n" + body)
	})
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// watchChanges prints the list once, and then what is new (+), other (~) and gone (-).
func watchChanges[T any](ctx context.Context, ad *admin, fetch func(context.Context) (client.List[json.RawMessage], error), name func(T) string, cols []column[T]) error {
	seen := map[string]string{}
	began := false
	return ad.watching(ctx, nil, func(ctx context.Context, _ bool) error {
		list, err := fetch(ctx)
		if err != nil {
			if !began || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(ad.app.errOut, "flotilla: %s\n", firstLine(err))
			return nil
		}
		items, err := client.Items[T](list)
		if err != nil {
			return err
		}
		changes := diffItems(seen, list.Items, items, name, cols)
		err = ad.printChanges(changes, titlesOf(cols, ad.format == "wide"), !began)
		began = true
		return err
	})
}

// changedItem is a line of a watch.
type changedItem struct {
	mark string
	word string
	name string
	raw  json.RawMessage
	row  func(wide bool) []string
}

// diffItems compares a list with what was seen, and notes it there.
func diffItems[T any](seen map[string]string, raws []json.RawMessage, items []T, name func(T) string, cols []column[T]) (out []changedItem) {
	here := map[string]bool{}
	for i, x := range items {
		id := name(x)
		here[id] = true
		old, known := seen[id]
		if known && old == string(raws[i]) {
			continue
		}
		c := changedItem{mark: "+", word: "added", name: id, raw: raws[i]}
		if known {
			c.mark, c.word = "~", "changed"
		}
		c.row = func(wide bool) (row []string) {
			for _, col := range cols {
				if !col.wide || wide {
					row = append(row, col.cell(x))
				}
			}
			return row
		}
		seen[id] = string(raws[i])
		out = append(out, c)
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if !here[id] {
			out = append(out, changedItem{mark: "-", word: "removed", name: id, raw: json.RawMessage(seen[id]), row: func(bool) []string { return []string{id} }})
			delete(seen, id)
		}
	}
	return out
}

func titlesOf[T any](cols []column[T], wide bool) (out []string) {
	for _, c := range cols {
		if !c.wide || wide {
			out = append(out, c.title)
		}
	}
	return out
}

func (ad *admin) printChanges(changes []changedItem, titles []string, first bool) error {
	var rows [][]string
	if first && !ad.c.Bool("no-headers") {
		rows = append(rows, append([]string{" "}, titles...))
	}
	for _, c := range changes {
		switch ad.format {
		case "json", "yaml":
			line, err := json.Marshal(map[string]any{"change": c.word, "name": c.name, "item": c.raw})
			if err != nil {
				return fmt.Errorf("encode the change: %w", err)
			}
			if ad.format == "yaml" {
				fmt.Fprintln(ad.app.out, "---")
				err = ad.printRaw(line)
			} else {
				_, err = fmt.Fprintln(ad.app.out, string(line))
			}
			if err != nil {
				return err
			}
		case "name":
			if _, err := fmt.Fprintln(ad.app.out, c.mark+" "+c.name); err != nil {
				return err
			}
		default:
			rows = append(rows, append([]string{c.mark}, c.row(ad.format == "wide")...))
		}
	}
	if ad.format != "table" && ad.format != "wide" || len(rows) == 0 {
		return nil
	}
	return writeRows(ad.app.out, rows)
}
