package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cluster/ca"
)

const caHelp = `Nodes prove to each other who they are with certificates of an authority (CA) that signs for one cluster's nodes
and for nobody else. The cluster port demands them beyond loopback.

  flotilla cluster ca init                      on a machine of yours, once: makes the CA, and with it the cluster's id
  flotilla cluster ca issue n1                  a certificate for node n1; likewise n2 and n3
  flotilla cluster ca issue n1 --renew          before it ends; nodes take new files over without a restart

Keep the CA's folder offline: whoever has ca.key can add nodes. A stolen node key is answered with
flotilla node remove: the id of a removed node is never let in again.`

const issueHelp = `The files go to DIR/NODE: ca.pem, node.pem, node.key. Copy that folder to the machine of the node.

  flotilla cluster ca issue n4
  flotilla cluster ca issue n4 --renew --days 90

A key can stay on its machine: make a signing request there, and only that leaves it. Its names do not count.

  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout node.key -out n4.csr -subj /CN=n4
  flotilla cluster ca issue n4 --csr n4.csr`

// caDir is where the authority's folder is looked for.
const caDir = "./flotilla-ca"

func (a *app) caCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Value: caDir, Usage: "folder `DIR` of the CA"}
	return &cli.Command{
		Name: "ca", Usage: "certificates for the nodes of a cluster", Description: caHelp,
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "make the CA of a new cluster, and the cluster's id", Description: "  flotilla cluster ca init --dir /media/safe/flotilla-ca",
				Flags: []cli.Flag{
					dir, &cli.IntFlag{Name: "days", Value: days(ca.DefaultLife), Usage: "how many days `N` it lasts"},
					&cli.StringFlag{Name: "cluster-id", Usage: "`ID` of a cluster that exists, for its first CA or its next; see flotilla status"},
				},
				Action: action(0, 0, a.caInit),
			},
			{
				Name: "issue", Usage: "make a certificate for a node", ArgsUsage: "NODE", Description: issueHelp,
				Flags: []cli.Flag{
					dir, &cli.IntFlag{Name: "days", Value: days(ca.NodeLife), Usage: "how many days `N` it lasts"},
					&cli.StringFlag{Name: "csr", Usage: "`FILE` with a signing request; - is stdin. The key is made here without one"},
					&cli.BoolFlag{Name: "renew", Usage: "replace the files of a node that has some"},
				},
				Action: action(1, 1, a.caIssue),
			},
		},
	}
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

// life reads --days.
func life(c *cli.Context) (time.Duration, error) {
	n := c.Int("days")
	if n < 1 || n > 36500 {
		return 0, usagef("--days is %d: it must be 1 to 36500", n)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

func (a *app) caInit(c *cli.Context) error {
	d, err := life(c)
	if err != nil {
		return err
	}
	authority, err := ca.New(c.String("cluster-id"), d)
	if err != nil {
		return caError(err, "")
	}
	dir := c.String("dir")
	if err := authority.Save(dir); err != nil {
		return caError(err, "this CA stays as it is: choose another folder with --dir, or issue certificates with flotilla cluster ca issue NODE --dir "+dir)
	}
	_, err = fmt.Fprintf(a.out, `cluster/%s has a certificate authority, valid until %s
  %s  the certificate: every node gets a copy
  %s  the private key: whoever has it can add nodes. Keep it offline, and a copy in a safe

Next, a certificate for each node:
  flotilla cluster ca issue n1%s
`, authority.ClusterID(), authority.NotAfter().Format(time.DateOnly), filepath.Join(dir, ca.CertFile), filepath.Join(dir, ca.KeyFile), dirFlag(dir))
	return err
}

// dirFlag is what the next command needs to find the same folder.
func dirFlag(dir string) string {
	if dir == caDir {
		return ""
	}
	return " --dir " + dir
}

func (a *app) caIssue(c *cli.Context) error {
	d, err := life(c)
	if err != nil {
		return err
	}
	dir, node := c.String("dir"), c.Args().First()
	if err := ca.ValidNode(node); err != nil {
		return caError(err, "")
	}
	authority, err := ca.Open(dir)
	if err != nil {
		return caError(err, "make the CA first with flotilla cluster ca init, or name its folder with --dir")
	}
	var issued ca.Issued
	if file := c.String("csr"); file == "" {
		issued, err = authority.Issue(node, d)
	} else {
		var request []byte
		if request, err = a.readRequest(file); err == nil {
			issued, err = authority.Sign(node, request, d)
		}
	}
	if err != nil {
		return caError(err, "")
	}
	folder := filepath.Join(dir, node)
	if err := authority.SaveNode(folder, issued, c.Bool("renew")); err != nil {
		return caError(err, "node "+node+" has a certificate: replace it with --renew")
	}
	return a.printIssued(node, folder, issued)
}

func (a *app) printIssued(node, folder string, issued ca.Issued) error {
	files, copied := "ca.pem, node.pem, node.key", "this folder"
	if issued.Key == nil {
		files, copied = "ca.pem, node.pem", "these two files, beside the key that made the request,"
	}
	_, err := fmt.Fprintf(a.out, `certificate/%s issued, valid until %s
  %s  %s

Next, copy %s to machine %s as /etc/flotilla/tls, readable by the user that runs the node alone,
and name the files in its /etc/flotilla/flotilla.yaml:
  cluster:
    tls: {ca: /etc/flotilla/tls/ca.pem, cert: /etc/flotilla/tls/node.pem, key: /etc/flotilla/tls/node.key}
A node that runs takes new files over within seconds.
`, node, issued.NotAfter.Format(time.DateOnly), folder, files, copied, node)
	return err
}

func (a *app) readRequest(file string) ([]byte, error) {
	const most = 1 << 20 // package ca says what is too long; this bounds what is read
	if file == "-" {
		return io.ReadAll(io.LimitReader(a.in, most))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// caError says what to do where a folder is not what the command needs.
func caError(err error, hint string) error {
	e := &codedError{code: exitFailed, err: err}
	switch {
	case errors.Is(err, ca.ErrInvalid):
		e.code = exitUsage
	case errors.Is(err, ca.ErrExists), errors.Is(err, os.ErrNotExist), errors.Is(err, ca.ErrDamaged):
		e.code, e.hint = exitUsage, hint
	}
	return e
}
