package conformance

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// statement is one numbered statement of a specification.
type statement struct {
	spec   string // "v5" or "v311"
	id     string // "MQTT-3.1.2-24"
	binds  string // "server", "client" or "both"
	asks   string // what it asks, in our words
	reason string // why no test proves it; empty where one does
}

// key is what a test is named after, such as "v5_MQTT_3_1_2_24".
func (s statement) key() string {
	return s.spec + "_" + strings.NewReplacer("-", "_", ".", "_").Replace(s.id)
}

// bindsServer reports whether a broker must follow it.
func (s statement) bindsServer() bool { return s.binds != "client" }

// specification is one of the two lists.
type specification struct {
	spec, title string
	statements  []statement
}

// specifications reads both lists from dir.
func specifications(dir string) ([]specification, error) {
	specs := []specification{{spec: "v5", title: "MQTT 5.0"}, {spec: "v311", title: "MQTT 3.1.1"}}
	for i := range specs {
		var err error
		if specs[i].statements, err = readStatements(filepath.Join(dir, specs[i].spec+".txt"), specs[i].spec); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

func readStatements(path, spec string) ([]statement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read statements: %w", err)
	}
	defer f.Close()
	form := regexp.MustCompile(`^MQTT-\d+\.\d+\.\d+-\d+$`)
	var list []statement
	seen := map[string]bool{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseStatement(line, spec)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		case !form.MatchString(s.id) || seen[s.id]:
			return nil, fmt.Errorf("%s: %q: the id is malformed or occurs twice", path, line)
		}
		seen[s.id] = true
		list = append(list, s)
	}
	return list, sc.Err()
}

func parseStatement(line, spec string) (statement, error) {
	f := strings.SplitN(line, "|", 4)
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	if len(f) < 3 || f[2] == "" {
		return statement{}, fmt.Errorf("want id | binds | what it asks [| reason]")
	}
	s := statement{spec: spec, id: f[0], binds: f[1], asks: f[2]}
	if s.binds != "server" && s.binds != "client" && s.binds != "both" {
		return statement{}, fmt.Errorf("binds %q: want server, client or both", s.binds)
	}
	if len(f) == 4 {
		s.reason = f[3]
	}
	return s, nil
}
