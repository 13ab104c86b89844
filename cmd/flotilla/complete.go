package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const (
	// completePatience bounds what a Tab waits for.
	completePatience = 500 * time.Millisecond
	// completeMost is how many names are offered.
	completeMost = 200
)

// completable is what an argument of a command names: items of a list of the API.
type completable struct {
	path, field string
	suffix      string
}

// completables are the commands whose first argument names something that there is.
func completables() map[string]completable {
	nodes, groups := completable{path: client.PathNodes, field: "id"}, completable{path: client.PathGroups, field: "id"}
	sessions, operations := completable{path: client.PathSessions, field: "client_id"}, completable{path: client.PathOperations, field: "id"}
	clients := completable{path: client.PathClients, field: "client_id"}
	return map[string]completable{
		"node show": nodes, "node drain": nodes, "node undrain": nodes, "node remove": nodes, "node replace": nodes, "node safe-to-stop": nodes,
		"group show": groups, "group transfer": groups, "operation show": operations, "operation cancel": operations,
		"client show": clients, "client kick": clients, "explain client": sessions,
		"session show": sessions, "session inbox": sessions, "session rm": sessions,
		"share show": {path: client.PathShares, field: "name"}, "retained get": {path: client.PathRetained, field: "topic"}, "retained rm": {path: client.PathRetained, field: "topic"},
		"cluster token revoke": {path: client.PathJoinTokens, field: "id"}, "settings set": {path: client.PathSettings, field: "key"},
		"log level": {path: client.PathLoggers, field: "name", suffix: "="},
	}
}

// completes lets the commands of the tree offer what there is.
func (a *app) completes(prefix string, commands []*cli.Command) {
	known := completables()
	for _, c := range commands {
		name := strings.TrimSpace(prefix + " " + c.Name)
		if what, ok := known[name]; ok {
			c.BashComplete = func(ctx *cli.Context) { a.offer(ctx, c, what) }
		}
		a.completes(name, c.Subcommands)
	}
}

// offer prints the names of what an argument may be, or the flags of a command. Whatever
// goes wrong, nothing is offered: a Tab is no place for an error.
func (a *app) offer(c *cli.Context, cmd *cli.Command, what completable) {
	if len(os.Args) > 2 && strings.HasPrefix(os.Args[len(os.Args)-2], "-") {
		cli.DefaultCompleteWithFlags(cmd)(c)
		return
	}
	ad, err := a.admin(c)
	if err != nil {
		return
	}
	defer ad.api.CloseIdle()
	ctx, cancel := context.WithTimeout(c.Context, completePatience)
	defer cancel()
	list, err := ad.api.All(ctx, what.path, nil, completeMost)
	if err != nil {
		return
	}
	for _, raw := range list.Items {
		for _, word := range completeWord(raw, what) {
			fmt.Fprintln(a.out, word)
		}
	}
}

// completeWord is the name of an item, if a shell can offer it as one word.
func completeWord(raw json.RawMessage, what completable) []string {
	text, known, err := fieldOf(raw, what.field)
	if err != nil || !known || strings.ContainsAny(text, " \t\n'\"\\$`") {
		return nil
	}
	if text == "" {
		text = "root" // the logger of all others
	}
	return []string{text + what.suffix}
}

const fishCompletion = `# completion of flotilla for fish
function __flotilla_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    string match -q -- '-*' $current; and set words $words $current
    command $words[1] $words[2..-1] --generate-bash-completion 2>/dev/null
end
complete -c flotilla -f -a '(__flotilla_complete)'
complete -c flotilla -n '__fish_prev_arg_in --config --token-file --join-token-file --cacert --cert --key --password-file' -F
`
