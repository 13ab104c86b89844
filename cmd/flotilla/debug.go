package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const bundleHelp = `One archive with what those need who look for the cause of something: of the cluster its status, nodes, groups, operations and
alarms; of every node its configuration without secrets, metrics, goroutine and heap profiles, the last lines of its log, and versions.
It has no payloads; client ids, topics and addresses may stand in it. index.json lists the files and what is missing.

  flotilla debug bundle
  flotilla debug bundle -o /tmp/flotilla.tar.gz -e http://10.0.0.2:8080

Any node asks the others. With nodes that do not answer the bundle is written all the same, and the exit code is 1.`

func (a *app) debugCommand() *cli.Command {
	flags := []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`; the default name has the time in it"}}
	for _, f := range withTimeout(commonFlags(), "60s") {
		if f.Names()[0] != "output" {
			flags = append(flags, f)
		}
	}
	return &cli.Command{
		Name: "debug", Usage: "gather what is needed to look for a fault", Category: categoryLook,
		Subcommands: []*cli.Command{{
			Name: "bundle", Usage: "write an archive with the state of all nodes", Description: bundleHelp, Flags: flags,
			Action: action(0, 0, a.bundle),
		}},
	}
}

// bundleIndex is index.json.
type bundleIndex struct {
	Made    time.Time     `json:"made_at"`
	Program string        `json:"program_version"`
	Cluster string        `json:"cluster_id"`
	Files   []bundleEntry `json:"files"`
	Missing []bundleEntry `json:"missing"`
}

type bundleEntry struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes,omitempty"`
	Error string `json:"error,omitempty"`
}

// bundle is an archive that is being written.
type bundle struct {
	tar   *tar.Writer
	dir   string
	now   time.Time
	index bundleIndex
}

func (a *app) bundle(c *cli.Context) error {
	now := time.Now().UTC()
	file := c.String("output")
	if file == "" {
		file = "flotilla-debug-" + now.Format("20060102T150405Z") + ".tar.gz"
	}
	api, err := a.bundleClient(c)
	if err != nil {
		return err
	}
	defer api.CloseIdle()
	// Who cannot be asked at all leaves no file behind.
	raw, err := api.Raw(c.Context, http.MethodGet, client.PathStatus, nil, nil)
	if err != nil {
		return err
	}
	var st client.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return usagef("%s exists already: name another file with -o", file)
	}
	if err != nil {
		return err
	}
	b := &bundle{dir: strings.TrimSuffix(filepath.Base(file), ".tar.gz"), now: now}
	b.index = bundleIndex{Made: now, Program: version, Cluster: st.ClusterID, Files: []bundleEntry{}, Missing: []bundleEntry{}}
	if err = errors.Join(b.write(c.Context, out, api, raw, &st), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", file, err), os.Remove(file))
	}
	fmt.Fprintf(a.out, "%s: %d files\n", file, len(b.index.Files))
	if len(b.index.Missing) == 0 {
		return nil
	}
	for _, m := range b.index.Missing {
		warn(a.errOut, "not in it: %s: %s", m.Name, m.Error)
	}
	return silent(exitFailed)
}

// bundleClient is the client of the common flags; -o is a file here.
func (a *app) bundleClient(c *cli.Context) (*client.Client, error) {
	if err := c.Set("output", "json"); err != nil {
		return nil, err
	}
	ad, err := a.admin(c)
	if err != nil {
		return nil, err
	}
	return ad.api, nil
}

// write gathers everything. What cannot be had is noted, and what comes after it is gathered all the same.
func (b *bundle) write(ctx context.Context, w io.Writer, api *client.Client, status []byte, st *client.Status) error {
	z := gzip.NewWriter(w)
	b.tar = tar.NewWriter(z)
	if err := b.add("status.json", status); err != nil {
		return err
	}
	for name, path := range map[string]string{
		"nodes.json": client.PathNodes, "groups.json": client.PathGroups, "operations.json": client.PathOperations, "alarms.json": client.PathAlarms,
	} {
		list, err := api.All(ctx, path, nil, 0)
		if err != nil {
			b.miss(name, err)
			continue
		}
		raw, err := json.MarshalIndent(list, "", "  ")
		if err == nil {
			err = b.add(name, raw)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range st.Nodes {
		if err := b.node(ctx, api, n.ID); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(b.index, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(b.put("index.json", append(raw, '\n')), b.tar.Close(), z.Close())
}

func (b *bundle) node(ctx context.Context, api *client.Client, id string) error {
	dir := "nodes/" + id + "/"
	part, err := api.DebugNode(ctx, id)
	if err != nil {
		b.miss(dir, err)
		return ctx.Err()
	}
	for _, f := range part.Files {
		name := dir + filepath.Base(f.Name) // a name of a node is not let out of its directory
		if f.Error != "" {
			b.miss(name, errors.New(f.Error))
		}
		if len(f.Data) == 0 {
			continue
		}
		if err := b.add(name, f.Data); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundle) miss(name string, err error) {
	b.index.Missing = append(b.index.Missing, bundleEntry{Name: name, Error: err.Error()})
}

func (b *bundle) add(name string, data []byte) error {
	b.index.Files = append(b.index.Files, bundleEntry{Name: name, Bytes: len(data)})
	return b.put(name, data)
}

func (b *bundle) put(name string, data []byte) error {
	err := b.tar.WriteHeader(&tar.Header{Name: b.dir + "/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: b.now, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = b.tar.Write(data)
	}
	return err
}
