package integration

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 600
	// maxFuncLines is the hard limit of a function, signature and braces included. The aim is softFuncLines.
	maxFuncLines  = 80
	softFuncLines = 60
)

// deterministicRooms are where apply lives: no clock, no random numbers.
func deterministicRooms() []string { return []string{"raftfsm/state", "raftfsm/command"} }

// TestBudget holds the sizes of files and functions, the presence of doc.go, the absence of init functions and of
// clocks and random numbers in the deterministic rooms.
func TestBudget(t *testing.T) {
	sources := map[string][]byte{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != ".." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		sources[filepath.ToSlash(rel)] = src
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bad, soft := budgetViolations(sources)
	for _, v := range bad {
		t.Error(v)
	}
	for _, v := range soft {
		t.Log(v)
	}
}

func budgetViolations(sources map[string][]byte) (bad, soft []string) {
	hasCode, hasDoc := map[string]bool{}, map[string]bool{}
	for path, src := range sources {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		hasCode[dir] = true
		hasDoc[dir] = hasDoc[dir] || filepath.Base(path) == "doc.go"
		b, s := fileViolations(path, dir, src)
		bad, soft = append(bad, b...), append(soft, s...)
	}
	for dir := range hasCode {
		if !hasDoc[dir] {
			bad = append(bad, dir+" has no doc.go")
		}
	}
	slices.Sort(bad)
	slices.Sort(soft)
	return bad, soft
}

func fileViolations(path, dir string, src []byte) (bad, soft []string) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.ParseComments)
	if err != nil {
		return []string{err.Error()}, nil
	}
	if n := bytes.Count(src, []byte("\n")); n > maxFileLines && !ast.IsGenerated(file) {
		bad = append(bad, fmt.Sprintf("%s has %d lines, at most %d", path, n, maxFileLines))
	}
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
		what := fmt.Sprintf("%s: %s has %d lines", path, fn.Name.Name, lines)
		switch {
		case lines > maxFuncLines:
			bad = append(bad, fmt.Sprintf("%s, at most %d", what, maxFuncLines))
		case lines > softFuncLines:
			soft = append(soft, fmt.Sprintf("%s, aim at %d", what, softFuncLines))
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			bad = append(bad, path+": init function")
		}
	}
	if slices.Contains(deterministicRooms(), dir) {
		bad = append(bad, clockViolations(fset, path, file)...)
	}
	return bad, soft
}

// clockViolations finds what would make replicas diverge: the wall clock, timers and random numbers.
func clockViolations(fset *token.FileSet, path string, file *ast.File) []string {
	var bad []string
	for _, imp := range file.Imports {
		if p := strings.Trim(imp.Path.Value, `"`); p == "math/rand" || p == "math/rand/v2" || p == "crypto/rand" {
			bad = append(bad, path+": imports "+p)
		}
	}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				bad = append(bad, fmt.Sprintf("%s: time.%s", fset.Position(n.Pos()), n.Sel.Name))
			}
		case *ast.GoStmt:
			bad = append(bad, fmt.Sprintf("%s: goroutine", fset.Position(n.Pos())))
		}
		return true
	})
	return bad
}

// The rules of TestBudget must be able to fail.
func TestBudgetRulesBite(t *testing.T) {
	long := "package a\n\nfunc long() {\n" + strings.Repeat("\t_ = 0\n", maxFuncLines) + "}\n"
	warm := "package a\n\nfunc warm() {\n" + strings.Repeat("\t_ = 0\n", softFuncLines) + "}\n"
	bad, soft := budgetViolations(map[string][]byte{
		"a/long.go":                []byte(long),
		"a/warm.go":                []byte(warm),
		"a/init.go":                []byte("package a\n\nfunc init() {}\n"),
		"b/doc.go":                 []byte("package b\n" + strings.Repeat("\n", maxFileLines)),
		"c/c_test.go":              []byte("package c\n\nfunc init() {}\n"),
		"raftfsm/state/doc.go":     []byte("package state\n\nimport (\n\t_ \"math/rand\"\n\t\"time\"\n)\n\nfunc f() { go f(); _ = time.Now() }\n"),
		"raftfsm/command/doc.go":   []byte("package command\n\nimport \"time\"\n\nconst d = time.Second\n"),
		"raftfsm/elsewhere/doc.go": []byte("package elsewhere\n\nimport \"time\"\n\nfunc f() { _ = time.Now() }\n"),
	})
	want := []string{
		"a has no doc.go",
		"a/init.go: init function",
		"a/long.go: long has 82 lines, at most 80",
		"b/doc.go has 601 lines, at most 600",
		"raftfsm/state/doc.go: imports math/rand",
		"raftfsm/state/doc.go:8:12: goroutine",
		"raftfsm/state/doc.go:8:24: time.Now",
	}
	if !slices.Equal(bad, want) {
		t.Errorf("violations:\n got %q\nwant %q", bad, want)
	}
	if want := []string{"a/warm.go: warm has 62 lines, aim at 60"}; !slices.Equal(soft, want) {
		t.Errorf("soft violations:\n got %q\nwant %q", soft, want)
	}
}
