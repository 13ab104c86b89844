package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v2"
)

// app is the command tree with the streams that its commands use.
type app struct {
	cli         *cli.App
	in          io.Reader
	out, errOut io.Writer
}

// Categories of the root help, in the order in which they are printed: the
// library sorts them, so that they begin with a number that is cut off again.
const (
	categoryRun   = "1Run a node"
	categoryLook  = "2Look at a cluster"
	categoryMQTT  = "3MQTT clients"
	categoryOther = "4Other"
)

const rootDescription = `flotilla is an MQTT broker cluster in which acknowledged means committed.

  flotilla start                          one node on loopback: MQTT 1883, admin 8080
  flotilla dev --nodes 3                  a local cluster for trying out
  flotilla status                         what the cluster is and whether it is well
  flotilla sub -t 'a/#' -q 1              print messages
  flotilla pub -t a/b -q 1 -m hello       publish; exits 0 only after the acknowledgement
  flotilla bench pubsub --duration 10s    measure rate, latency, losses

  flotilla start --cluster-addr 10.0.0.1:7400 --mqtt-addr 10.0.0.1:1883 \
      --join 10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 --bootstrap-expect 3 \
      --allow-anonymous --insecure-cluster      one of three nodes of a new cluster`

// rootHelp prints the commands by category.
const rootHelp = `{{.Description}}

{{range .VisibleCategories}}{{if .Name}}{{slice .Name 1}}:
{{range .VisibleCommands}}  {{printf "%-14s" (join .Names ", ")}}{{.Usage}}
{{end}}
{{end}}{{end}}Each command has a help page with examples: flotilla COMMAND --help
Exit codes: 0 done, 1 failed, 2 usage, 3 permission, 4 not found, 5 server, 6 unreachable, 7 timeout,
8 refused by a guard or degraded, 9 identity, 10 storage failed, 130 interrupted
`

// commandHelp prints one command.
const commandHelp = `{{.Usage}}

usage: {{.HelpName}}{{if .VisibleFlags}} [flags]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}{{if .Description}}

{{.Description}}{{end}}{{if .VisibleFlags}}

flags:{{range .VisibleFlags}}
  {{.}}{{end}}{{end}}
`

// groupHelp prints a command that only holds others.
const groupHelp = `{{.Usage}}

usage: {{.HelpName}} COMMAND

commands:{{range .VisibleCommands}}
  {{printf "%-14s" (join .Names ", ")}}{{.Usage}}{{end}}
`

func newApp(in io.Reader, out, errOut io.Writer) *app {
	a := &app{in: in, out: out, errOut: errOut}
	a.cli = &cli.App{
		Name: "flotilla", Usage: "MQTT broker cluster", Description: rootDescription,
		Reader: in, Writer: out, ErrWriter: errOut,
		CustomAppHelpTemplate: rootHelp, HideVersion: true, HideHelpCommand: true,
		EnableBashCompletion: true, DisableSliceFlagSeparator: true,
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		Flags:          []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version", Aliases: []string{"V"}}},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return a.printVersion(c)
			}
			if c.Args().First() == "help" { // what people try first
				return a.cli.RunContext(c.Context, slices.Concat([]string{"flotilla"}, c.Args().Tail(), []string{"--help"}))
			}
			if c.NArg() > 0 {
				return unknownCommand("flotilla", c.Args().First(), a.cli.Commands)
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			a.startCommand(), a.devCommand(), a.configCommand(), a.userCommand(),
			a.statusCommand(), a.clusterCommand(), a.nodeCommand(), a.groupCommand(), a.operationCommand(), a.checkCommand(), a.clientCommand(),
			a.sessionCommand(), a.subscriptionCommand(), a.shareCommand(), a.retainedCommand(), a.alarmCommand(), a.apikeyCommand(), a.auditCommand(), a.inspectCommand(), a.debugCommand(),
			a.eventsCommand(), a.explainCommand(), a.settingsCommand(), a.listenerCommand(), a.logCommand(),
			a.pubCommand(), a.subCommand(), a.benchCommand(),
			a.versionCommand(), a.completionCommand(),
		},
	}
	a.cli.OnUsageError = badFlags
	finish("flotilla", a.cli.Commands)
	a.completes("", a.cli.Commands)
	return a
}

// finish gives every command of the tree what the library does not inherit.
func finish(prefix string, commands []*cli.Command) {
	for _, c := range commands {
		name := prefix + " " + c.Name
		c.OnUsageError = badFlags
		c.HideHelpCommand = true
		c.CustomHelpTemplate = commandHelp
		if len(c.Subcommands) == 0 {
			continue
		}
		c.CustomHelpTemplate = groupHelp
		below := c.Subcommands
		c.Action = func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return unknownCommand(name, ctx.Args().First(), below)
			}
			return cli.ShowSubcommandHelp(ctx)
		}
		finish(name, below)
	}
}

func badFlags(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		text = "unknown flag --" + strings.TrimPrefix(name, "-")
	}
	if i := strings.Index(text, " for flag -"); i >= 0 && !strings.HasPrefix(text[i:], " for flag --") {
		text = text[:i] + " for flag --" + text[i+len(" for flag -"):]
	}
	return &codedError{code: exitUsage, err: fmt.Errorf("%s", text), usage: c.Command.HelpName}
}

func unknownCommand(name, word string, known []*cli.Command) error {
	names := make([]string, 0, len(known))
	for _, c := range known {
		names = append(names, c.Name)
	}
	e := &codedError{code: exitUsage, err: fmt.Errorf("%s has no command %q", name, word), usage: name}
	if near := nearestName(word, names); near != "" {
		e.hint = "did you mean: " + name + " " + near
	}
	return e
}

// nearestName finds the name that a word was meant to be: one that begins alike, or the nearest by
// letters that were added, left out, changed or swapped, if it is near at all.
func nearestName(word string, names []string) string {
	for _, n := range names {
		if strings.HasPrefix(n, word) || strings.HasPrefix(word, n) {
			return n
		}
	}
	best, least := "", 3
	for _, n := range names {
		if d := edits(word, n); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// edits is how many letters have to be added, left out, changed or swapped with their neighbour to make
// b of a (the optimal string alignment distance).
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}

// action wraps what a leaf does: it checks the number of arguments.
func action(least, most int, fn func(*cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		switch n := c.NArg(); {
		case n < least:
			return &codedError{code: exitUsage, err: fmt.Errorf("%s needs %s", c.Command.HelpName, c.Command.ArgsUsage), usage: c.Command.HelpName}
		case n > most:
			return &codedError{
				code: exitUsage, usage: c.Command.HelpName,
				err: fmt.Errorf("%s: extra argument %q", c.Command.HelpName, c.Args().Get(most)),
			}
		}
		return fn(c)
	}
}

// terminal says whether a stream is one.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
