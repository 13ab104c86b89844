package config

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
)

// Input is where values come from, the later fields below the earlier ones in
// rank except that Flags and Sets have the same.
type Input struct {
	// Flags holds the flags that were given, by key path.
	Flags map[string]string
	// Sets holds the arguments of --set: key.path=value.
	Sets []string
	// Env is os.Environ().
	Env []string
	// File is the path of the YAML file, or empty.
	File string
}

// Result is a loaded configuration.
type Result struct {
	Config Config
	// Sources says where the value of a key came from: "default",
	// "file f.yaml:3", "environment FLOTILLA_X", "flag --x" or "--set".
	Sources map[string]string
	// Warnings are sentences for the operator.
	Warnings []string
}

// Source says where the value of a key comes from; what a list has inside comes
// from where the list does.
func (r *Result) Source(path string) string {
	if s := r.Sources[path]; s != "" {
		return s
	}
	if list, _, inside := strings.Cut(path, "["); inside && r.Sources[list] != "" {
		return r.Sources[list]
	}
	return "default"
}

// ErrInvalid is wrapped by all errors of this package that the operator has to
// mend in the configuration.
var ErrInvalid = errors.New("configuration")

// Load reads all sources and validates the result. The error joins everything
// that is wrong, one line each.
func Load(in Input) (Result, error) {
	r := Result{Config: Default(), Sources: map[string]string{}}
	var errs []error
	if in.File != "" {
		text, err := os.ReadFile(in.File)
		if err != nil {
			return r, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		errs = append(errs, applyFile(&r.Config, in.File, text, r.Sources))
	}
	byPath := map[string]leaf{}
	for _, l := range leaves(&r.Config) {
		byPath[l.path] = l
	}
	errs = append(errs, applyEnv(byPath, in.Env, &r), applySets(byPath, in, &r), applyFlags(byPath, in, &r))
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := r.Config.Validate(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

func applyEnv(byPath map[string]leaf, env []string, r *Result) error {
	byName := map[string]leaf{}
	for path, l := range byPath {
		byName[EnvName(path)] = l
	}
	var errs []error
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		l, known := byName[name]
		if !known {
			if strange(name) {
				r.Warnings = append(r.Warnings, fmt.Sprintf("variable %s is not a key and is ignored", name))
			}
			continue
		}
		if err := l.setText(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		r.Sources[l.path] = "environment " + name
	}
	sort.Strings(r.Warnings)
	return errors.Join(errs...)
}

// strange says whether a variable looks like a misspelt key. Variables that
// Kubernetes makes for a service named flotilla do not.
func strange(name string) bool {
	rest, ours := strings.CutPrefix(name, EnvPrefix)
	if !ours || contains([]string{"CONFIG", "TOKEN_FILE", "CACERT", "CERT", "KEY"}, rest) {
		return false
	}
	for _, p := range []string{"SERVICE_", "PORT"} {
		if strings.HasPrefix(rest, p) || strings.Contains(rest, "_"+p) {
			return false
		}
	}
	return true
}

func applySets(byPath map[string]leaf, in Input, r *Result) error {
	var errs []error
	seen := map[string]bool{}
	paths := make([]string, 0, len(byPath))
	for p := range byPath {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, s := range in.Sets {
		path, value, ok := strings.Cut(s, "=")
		l, known := byPath[path]
		_, isFlag := in.Flags[path]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("--set %s: want key.path=value", s))
		case !known:
			errs = append(errs, unknownSet(path, paths))
		case seen[path] || isFlag:
			errs = append(errs, fmt.Errorf("--set %s: the key is given twice", path))
		default:
			seen[path] = true
			if err := l.setText(value); err != nil {
				errs = append(errs, fmt.Errorf("--set %s: %w", path, err))
			}
			r.Sources[path] = "--set"
		}
	}
	return errors.Join(errs...)
}

func unknownSet(path string, known []string) error {
	if planned(path) {
		return fmt.Errorf("--set %s: the key belongs to a later version", path)
	}
	if near := nearest(path, known); near != "" {
		return fmt.Errorf("--set %s: unknown key, did you mean %q?", path, near)
	}
	return fmt.Errorf("--set %s: unknown key", path)
}

func applyFlags(byPath map[string]leaf, in Input, r *Result) error {
	var errs []error
	for path, value := range in.Flags {
		l, known := byPath[path]
		if !known {
			return fmt.Errorf("flag for unknown key %q", path) // a mistake of ours
		}
		if err := l.setText(value); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", l.tag.Get("flag"), err))
		}
		r.Sources[path] = "flag --" + l.tag.Get("flag")
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return errors.Join(errs...)
}
