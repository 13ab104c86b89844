package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version", Category: categoryOther,
		Action: action(0, 0, a.printVersion),
	}
}

func (a *app) printVersion(*cli.Context) error {
	_, err := fmt.Fprintf(a.out, "flotilla %s commit %s %s %s/%s\n", version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// commit is what the toolchain noted of the source.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "unknown"
}

func (a *app) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script for a shell", ArgsUsage: "bash|zsh|fish", Category: categoryOther,
		Description: "  source <(flotilla completion bash)\n  flotilla completion zsh > \"${fpath[1]}/_flotilla\"\n  flotilla completion fish > ~/.config/fish/completions/flotilla.fish",
		Action:      action(1, 1, a.completion),
	}
}

const bashCompletion = `# completion of flotilla for bash
_flotilla() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  words="$("${COMP_WORDS[@]:0:COMP_CWORD}" ${cur:+"$cur"} --generate-bash-completion 2>/dev/null)"
  COMPREPLY=($(compgen -W "${words}" -- "${cur}"))
}
complete -o bashdefault -o default -F _flotilla flotilla
`

const zshCompletion = `#compdef flotilla
# completion of flotilla for zsh
_flotilla() {
  local -a words_
  words_=("${(@f)$("${words[@]:0:#words[@]-1}" --generate-bash-completion 2>/dev/null)}")
  [[ "${words_[1]}" != "" ]] && _describe 'values' words_ || _files
}
compdef _flotilla flotilla
`

func (a *app) completion(c *cli.Context) error {
	var script string
	switch shell := c.Args().First(); shell {
	case "bash":
		script = bashCompletion
	case "zsh":
		script = zshCompletion
	case "fish":
		script = fishCompletion
	default:
		return usagef("completion for %q is not known: use bash, zsh or fish", shell)
	}
	_, err := fmt.Fprint(a.out, script)
	return err
}
