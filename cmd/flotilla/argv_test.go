package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func TestReorder(t *testing.T) {
	a := newApp(strings.NewReader(""), io.Discard, io.Discard)
	for _, c := range []struct{ name, in, want string }{
		{"plain", "flotilla status", "flotilla status"},
		{"flags before the command", "flotilla -e http://x --debug status", "flotilla status -e http://x --debug"},
		{"flags between group and leaf", "flotilla node -o json ls", "flotilla node ls -o json"},
		{"flags behind an argument", "flotilla node show n3 -o json --debug", "flotilla node show -o json --debug n3"},
		{"value with equals", "flotilla node show n3 --output=json", "flotilla node show --output=json n3"},
		{"value that looks like a flag", "flotilla pub -t a -m --verbose", "flotilla pub -t a -m --verbose"},
		{"value that looks like a command", "flotilla -e status node ls", "flotilla node ls -e status"},
		{"-q is a number for pub", "flotilla pub -q 1 -t a -m x", "flotilla pub -q 1 -t a -m x"},
		{"-q is a switch for status", "flotilla status -q -o json", "flotilla status -q -o json"},
		{"-q before the command is a switch", "flotilla -q status", "flotilla status -q"},
		{"a flag of a later command takes its value", "flotilla --config f.yaml start", "flotilla start --config f.yaml"},
		{"argument that is also a command", "flotilla session show ls", "flotilla session show ls"},
		{"double dash", "flotilla session show -o json -- -weird", "flotilla session show -o json -- -weird"},
		{"arguments that look like flags stay arguments", "flotilla session show -- --help", "flotilla session show -- --help"},
		{"unknown flag", "flotilla --bogus status", "flotilla status --bogus"},
		{"unknown command", "flotilla nod ls -o json", "flotilla -o json nod ls"},
		{"flag without value at the end", "flotilla status -e", "flotilla status -e"},
		{"a lone dash is an argument", "flotilla session show -", "flotilla session show -- -"},
		{"completion is left alone", "flotilla node --generate-bash-completion", "flotilla node --generate-bash-completion"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(reorder(a.cli, strings.Fields(c.in)), " ")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got := reorder(a.cli, nil); len(got) != 0 {
		t.Errorf("nothing becomes %v", got)
	}
}

// TestEveryLeaf holds what scripts rely on for all commands of the tree.
func TestEveryLeaf(t *testing.T) {
	a := newApp(strings.NewReader(""), io.Discard, io.Discard)
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			name := path + " " + c.Name
			if c.OnUsageError == nil || c.Action == nil || c.Usage == "" || c.CustomHelpTemplate == "" {
				t.Errorf("%s: lacks usage, action, help or the handler of wrong flags", name)
			}
			if len(c.Subcommands) > 0 {
				walk(name, c.Subcommands)
				continue
			}
			seen := map[string]bool{}
			for _, f := range c.Flags {
				for _, n := range f.Names() {
					if seen[n] {
						t.Errorf("%s: two flags are called %s", name, n)
					}
					seen[n] = true
				}
			}
			_, output := takesValue(c.Flags, "output")
			if strings.HasSuffix(name, " ls") || strings.HasSuffix(name, " show") || strings.HasSuffix(name, " status") {
				for _, f := range commonFlags() {
					if !seen[f.Names()[0]] || !output {
						t.Errorf("%s: lacks --%s", name, f.Names()[0])
					}
				}
			}
		}
	}
	walk("flotilla", a.cli.Commands)
}

func TestExitCodesAreTheContract(t *testing.T) {
	got := []int{
		exitOK, exitFailed, exitUsage, exitAuth, exitNotFound, exitServer, exitUnreachable, exitTimeout, exitGuard,
		exitIdentity, exitFailStop, exitInterrupted,
	}
	want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
