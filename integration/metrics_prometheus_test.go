package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// alertFile and dashboardFile are what operators load.
const (
	alertFile     = "../deploy/prometheus/alerts.yaml"
	dashboardFile = "../deploy/grafana/flotilla.json"
)

// alertRule is what the tests need of a rule.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t testing.TB) (rules []alertRule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	b, err := os.ReadFile(alertFile)
	if err == nil {
		err = yaml.Unmarshal(b, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// panel is a part of a Grafana dashboard.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct{ H, W, X, Y int }
	Targets []struct {
		RefID      string `json:"refId"`
		Expr       string `json:"expr"`
		Datasource struct {
			Type, UID string
		} `json:"datasource"`
	} `json:"targets"`
}

type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
}

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	var d dashboard
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var dashboardVariable = regexp.MustCompile(`\$\{?([a-zA-Z_]+)\}?`)

// TestDashboard holds the structure that Grafana expects; Grafana itself is not at hand.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 || len(d.Panels) == 0 {
		t.Errorf("title %q, uid %q, schema %d, %d panels", d.Title, d.UID, d.SchemaVersion, len(d.Panels))
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	seen := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if seen[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		seen[p.ID] = true
		if !slices.Contains([]string{"row", "timeseries", "stat"}, p.Type) || p.Title == "" {
			t.Errorf("panel %d %q is a %q", p.ID, p.Title, p.Type)
		}
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X+g.W > 24 {
			t.Errorf("panel %q lies at %+v", p.Title, g)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %q is a %s with %d queries", p.Title, p.Type, len(p.Targets))
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.RefID == "" || q.Expr == "" || q.Datasource.Type != "prometheus" || q.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: query %+v", p.Title, q)
			}
			refs[q.RefID] = true
			for _, m := range dashboardVariable.FindAllStringSubmatch(q.Expr, -1) {
				if !variables[m[1]] {
					t.Errorf("panel %q uses the variable %s, which is not defined", p.Title, m[1])
				}
			}
		}
	}
}

// TestAlertRules runs promtool over the rules and over series that make each of them fire, or none.
func TestAlertRules(t *testing.T) {
	for _, r := range alertRules(t) {
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary, a description or a severity", r.Alert)
		}
	}
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"check", "config", "scrape.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = filepath.Dir(alertFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// prom is a Prometheus that scrapes a cluster.
type prom struct {
	t   *testing.T
	url string
}

// startPrometheus runs the real one, with the rules as operators load them, until the test ends.
func startPrometheus(t *testing.T, c *harness.Cluster) *prom {
	t.Helper()
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		needClient(t, fmt.Errorf("prometheus is not installed (Debian package prometheus): %w", err))
	}
	rules, err := filepath.Abs(alertFile)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, n := range c.Nodes {
		targets = append(targets, fmt.Sprintf("%q", n.AdminAddr()))
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs:\n  - job_name: flotilla\n    static_configs: [{targets: [%s]}]\n", rules, strings.Join(targets, ", "))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(bin, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
		}
	})
	return &prom{t, "http://" + addr}
}

// get asks the API of Prometheus and decodes its data.
func (p *prom) get(ctx context.Context, path string, q url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return fmt.Errorf("%s: %w: %.100s", path, err, b)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, out)
}

// series evaluates an expression and says how many series it has.
func (p *prom) series(ctx context.Context, expr string) (int, error) {
	var data struct {
		Result []json.RawMessage
	}
	err := p.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &data)
	return len(data.Result), err
}

// some fails unless an expression has series.
func (p *prom) some(ctx context.Context, expr string) error {
	n, err := p.series(ctx, expr)
	if err == nil && n == 0 {
		err = fmt.Errorf("there are none: %s", expr)
	}
	return err
}

var (
	metricName = regexp.MustCompile(`\b(flotilla|process)_[a-z0-9_]+`)
	comparison = regexp.MustCompile(`\s+(==|<|>)\s+[-0-9.* ]+( |$)`)
)

// TestPrometheus: a real Prometheus scrapes a real cluster; every query of the dashboard and every rule is evaluated by it and has
// series, every metric that they name is there, and no alert is raised but the one that is true: a certificate that ends tomorrow.
func TestPrometheus(t *testing.T) {
	long(t)
	c := observed(t)
	p := startPrometheus(t, c)
	harness.Wait(t, patience, "scrapes of all nodes", func(ctx context.Context) error {
		n, err := p.series(ctx, "count_over_time(flotilla_ready[1m]) > 4")
		if err == nil && n < len(c.Nodes) {
			err = fmt.Errorf("%d of %d nodes", n, len(c.Nodes))
		}
		return err
	})
	fill := strings.NewReplacer("$__rate_interval", "1m", "$job", "flotilla", "$instance", ".*")
	exprs := map[string]string{}
	for _, pn := range readDashboard(t).Panels {
		for _, q := range pn.Targets {
			exprs["panel "+pn.Title+" "+q.RefID] = fill.Replace(q.Expr)
		}
	}
	for _, r := range alertRules(t) {
		// What an alert compares must be there; that it is not true is as it should be.
		exprs["alert "+r.Alert] = comparison.ReplaceAllString(strings.Split(strings.Split(r.Expr, " unless ")[0], " and on ")[0], " ")
		exprs["alert "+r.Alert+" as it is"] = "(" + r.Expr + ") or vector(0)"
	}
	for what, expr := range exprs {
		for _, e := range append(metricName.FindAllString(expr, -1), expr) {
			// A scrape that came too late takes all series away until the next one.
			if err := harness.Until(t.Context(), patience, what+" to have series", func(ctx context.Context) error { return p.some(ctx, e) }); err != nil {
				t.Error(err)
				break
			}
		}
	}
	p.rulesAreWell()
}

// rulesAreWell looks at the state of the rules after their evaluation.
func (p *prom) rulesAreWell() {
	var state struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	want := len(alertRules(p.t))
	harness.Wait(p.t, patience, "all rules to be evaluated", func(ctx context.Context) error {
		if err := p.get(ctx, "/api/v1/rules", nil, &state); err != nil {
			return err
		}
		done := 0
		for _, g := range state.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					return harness.Never(fmt.Errorf("%s: %s", r.Name, r.LastError))
				}
				if r.Health == "ok" {
					done++
				}
			}
		}
		if done != want {
			return fmt.Errorf("%d of %d", done, want)
		}
		return nil
	})
	for _, g := range state.Groups {
		for _, r := range g.Rules {
			firing := r.State == "firing"
			if firing && r.Name != "FlotillaCertificateEnds" {
				p.t.Logf("%s is %s", r.Name, r.State)
			}
			// A machine that stands still for a while raises some of them rightly.
			if r.Name == "FlotillaCertificateEnds" && !firing || firing && r.Name != "FlotillaCertificateEnds" && slack(0) == 0 {
				p.t.Errorf("%s is %s", r.Name, r.State)
			}
		}
	}
}
