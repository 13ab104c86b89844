package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// reorder puts flags before arguments, since the flag library takes no flag
// after the first argument for one: "node remove n3 --dry-run" would remove.
// Flags that stand before the name of the command go behind it. "--" ends the
// flags. What it does not understand stays as it is, for the library to refuse.
func reorder(root *cli.App, argv []string) []string {
	if len(argv) == 0 || slices.Contains(argv, "--generate-bash-completion") {
		return argv
	}
	var path, flags, args []string
	commands, current := root.Commands, []cli.Flag(root.Flags)
	rest := argv[1:]
	for len(rest) > 0 {
		token := rest[0]
		rest = rest[1:]
		switch {
		case token == "--":
			args = append(args, rest...)
			rest = nil
		case len(token) > 1 && token[0] == '-':
			flags = append(flags, token)
			if takesNext(token, current, commands) && len(rest) > 0 {
				flags, rest = append(flags, rest[0]), rest[1:]
			}
		default:
			cmd := find(commands, token)
			if cmd == nil || len(args) > 0 {
				args = append(args, token)
				continue
			}
			path = append(path, token)
			commands, current = cmd.Subcommands, cmd.Flags
		}
	}
	out := append([]string{argv[0]}, path...)
	out = append(out, flags...)
	if len(args) > 0 {
		if slices.ContainsFunc(args, func(s string) bool { return strings.HasPrefix(s, "-") }) {
			out = append(out, "--")
		}
		out = append(out, args...)
	}
	return out
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesNext says whether a flag's value is the next token. A flag that the
// current command does not have may belong to a command that follows.
func takesNext(token string, current []cli.Flag, below []*cli.Command) bool {
	name := strings.TrimLeft(token, "-")
	if name == "" || strings.Contains(name, "=") {
		return false
	}
	if takes, known := takesValue(current, name); known {
		return takes
	}
	if len(below) > 0 {
		if takes, known := takesValue(commonFlags(), name); known {
			return takes
		}
	}
	for _, c := range below {
		if takes, known := takesValue(c.Flags, name); known {
			return takes
		}
		if takesNext(token, nil, c.Subcommands) {
			return true
		}
	}
	return false
}

func takesValue(flags []cli.Flag, name string) (takes, known bool) {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		d, ok := f.(cli.DocGenerationFlag)
		return ok && d.TakesValue(), true
	}
	return false, false
}
