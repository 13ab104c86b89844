package api

import (
	"context"
	"fmt"
	"net/http"
	"sort"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Observer lets operators see what happens and why, and turn the knobs that belong to it.
type Observer interface {
	EventStreamer
	// ExplainTopic says where a publish goes, ExplainClient how it is with a client id.
	ExplainTopic(ctx context.Context, topic string) (client.TopicExplanation, error)
	ExplainClient(ctx context.Context, id string) (client.ClientExplanation, error)
	// Settings are the cluster settings that this node knows. ChangeSettings changes some,
	// and returns those that are other than before. A refusal is a GuardError.
	Settings() []client.Setting
	ChangeSettings(ctx context.Context, values map[string]string, dryRun bool) ([]client.Setting, error)
	// Loggers are those of a node, "" for all that answer. SetLogger changes one.
	Loggers(ctx context.Context, node string) ([]client.Logger, error)
	SetLogger(ctx context.Context, node, name, level string) ([]client.Logger, error)
	Listeners(context.Context) ([]client.Listener, error)
	// PauseListener lets a client port of a node accept nobody, or accept again. Who is
	// connected stays. A node or port that does not exist is a GuardError.
	PauseListener(ctx context.Context, node, name string, pause bool) (client.Listener, error)
	// KickClients disconnects many clients, as an operation.
	KickClients(ctx context.Context, req client.KickClients, dryRun bool) (client.Operation, error)
}

type explainTopicInput struct {
	Topic string `path:"topic" maxLength:"65535"`
}

type explainClientInput struct {
	ID string `path:"id" maxLength:"65535"`
}

type settingsInput struct {
	DryRun bool `query:"dry_run" doc:"Check and answer, change nothing."`
	Body   map[string]any
}

type loggersInput struct {
	PageParams
	Node string `query:"node" doc:"Only those of this node."`
}

type loggerInput struct {
	Name string `path:"name" maxLength:"255" doc:"Name of the logger; root for all that have no level of their own."`
	Node string `query:"node" doc:"Only on this node."`
	Body client.LoggerLevel
}

type listenerInput struct {
	Node string `path:"node" maxLength:"255" doc:"Node id."`
	Name string `path:"name" maxLength:"255" doc:"Name of the listener: mqtt, mqtts, or that of the configuration."`
}

type kickManyInput struct {
	DryRun bool `query:"dry_run" doc:"Count who matches, disconnect nobody."`
	Body   client.KickClients
}

func (s *Server) observeRoutes(a huma.API) {
	n := s.opt.Node
	s.eventRoute(a)
	answer(s, a, operation("explain-topic", "/explain/topic/{topic}", "Where a publish to a topic goes, and why it would be refused now"),
		func(ctx context.Context, in *explainTopicInput) (client.TopicExplanation, error) {
			return n.ExplainTopic(ctx, in.Topic)
		})
	answer(s, a, operation("explain-client", "/explain/client/{id}", "Where a client id lives, and why it is connected or not"),
		func(ctx context.Context, in *explainClientInput) (client.ClientExplanation, error) {
			return n.ExplainClient(ctx, in.ID)
		})
	answer(s, a, operation("list-settings", "/settings", "Cluster settings"),
		func(_ context.Context, in *PageParams) (client.List[client.Setting], error) {
			return slicePage("settings", n.Settings(), in)
		})
	set := operation("change-settings", "/settings", "Change cluster settings: an object of keys and values", 409)
	set.Method = http.MethodPatch
	answer(s, a, set, s.changeSettings)
	answer(s, a, operation("list-loggers", "/loggers", "What each node logs", 404),
		func(ctx context.Context, in *loggersInput) (client.List[client.Logger], error) {
			all, err := n.Loggers(ctx, in.Node)
			if err != nil {
				return client.List[client.Logger]{}, err
			}
			return slicePage("loggers", all, &in.PageParams)
		})
	level := operation("set-logger", "/loggers/{name}", "Change what is logged, until the node stops", 404)
	level.Method = http.MethodPut
	answer(s, a, level, func(ctx context.Context, in *loggerInput) (client.List[client.Logger], error) {
		name := in.Name
		if name == rootLogger {
			name = ""
		}
		all, err := n.SetLogger(ctx, in.Node, name, in.Body.Level)
		return client.List[client.Logger]{Items: filled(all), Meta: client.Meta{Limit: len(all)}}, err
	})
	answer(s, a, operation("list-listeners", "/listeners", "Client ports of all nodes"),
		func(ctx context.Context, in *PageParams) (client.List[client.Listener], error) {
			all, err := n.Listeners(ctx)
			if err != nil {
				return client.List[client.Listener]{}, err
			}
			return slicePage("listeners", all, in)
		})
	pause := operation("pause-listener", "/listeners/{node}/{name}/pause", "Close new connections at once, keep those that exist, until it is resumed or the node restarts", 404)
	pause.Method = http.MethodPost
	answer(s, a, pause, func(ctx context.Context, in *listenerInput) (client.Listener, error) {
		return n.PauseListener(ctx, in.Node, in.Name, true)
	})
	resume := operation("resume-listener", "/listeners/{node}/{name}/resume", "Let a paused listener accept again", 404)
	resume.Method = http.MethodPost
	answer(s, a, resume, func(ctx context.Context, in *listenerInput) (client.Listener, error) {
		return n.PauseListener(ctx, in.Node, in.Name, false)
	})
	change(s, a, "kick-clients", http.MethodPost, "/clients/kick", "Disconnect all clients that match, at a rate",
		func(ctx context.Context, in *kickManyInput) (client.Operation, error) {
			if c := in.Body.ReasonCode; c != 0 && c < 128 {
				return client.Operation{}, fmt.Errorf("reason_code %d is none of DISCONNECT: use 128 to 162: %w", c, ErrInvalid)
			}
			return n.KickClients(ctx, in.Body, in.DryRun)
		})
}

// rootLogger is the name in a path of the loggers without a level of their own.
const rootLogger = "root"

func (s *Server) changeSettings(ctx context.Context, in *settingsInput) (client.ChangedSettings, error) {
	values := make(map[string]string, len(in.Body))
	keys := make([]string, 0, len(in.Body))
	for k := range in.Body {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		switch v := in.Body[k].(type) {
		case string:
			values[k] = v
		case bool:
			values[k] = fmt.Sprint(v)
		case float64:
			values[k] = fmt.Sprintf("%.0f", v)
		default:
			return client.ChangedSettings{}, fmt.Errorf("%s: the value must be a string, a number, true or false: %w", k, ErrInvalid)
		}
	}
	if len(values) == 0 {
		return client.ChangedSettings{}, fmt.Errorf("the body names no setting: %w", ErrInvalid)
	}
	items, err := s.opt.Node.ChangeSettings(ctx, values, in.DryRun)
	return client.ChangedSettings{DryRun: in.DryRun, Items: filled(items)}, err
}
