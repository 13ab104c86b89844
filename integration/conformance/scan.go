package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// proof is one test function that names statements.
type proof struct {
	dir, name string   // package directory and function
	keys      []string // as statement.key
	bug       string   // why it is known to fail; empty for a test that counts
}

// scan finds the proofs in all test files below root.
func scan(root string) ([]proof, error) {
	var proofs []proof
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		found, err := scanFile(path, nil)
		for i := range found {
			found[i].dir = filepath.ToSlash(rel)
		}
		proofs = append(proofs, found...)
		return err
	})
	slices.SortFunc(proofs, func(a, b proof) int {
		return strings.Compare(a.dir+" "+a.name, b.dir+" "+b.name)
	})
	return proofs, err
}

// scanFile finds the proofs of one file; src replaces its content if it is not nil.
func scanFile(path string, src any) ([]proof, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("scan tests: %w", err)
	}
	var proofs []proof
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, "Fuzz") {
			continue
		}
		if keys := keysOf(fn.Name.Name); len(keys) > 0 {
			proofs = append(proofs, proof{name: fn.Name.Name, keys: keys, bug: bugOf(fn)})
		}
	}
	return proofs, nil
}

// keysOf returns the statements that a test's name holds. A version holds until the next one.
func keysOf(name string) []string {
	part := regexp.MustCompile(`_(v5|v311|v31)(?:_|$)|_?MQTT((?:_[0-9]+){4})(?:_|$)`)
	var keys []string
	spec := ""
	for len(name) > 0 {
		m := part.FindStringSubmatchIndex(name)
		if m == nil {
			break
		}
		switch {
		case m[2] >= 0:
			spec = name[m[2]:m[3]]
			name = name[m[3]:]
		default:
			if key := spec + "_MQTT" + name[m[4]:m[5]]; spec != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
			name = name[m[5]:]
		}
	}
	return keys
}

// bugOf returns the text of knownBug(t, "...") if the function calls it, so that such a test does not count.
func bugOf(fn *ast.FuncDecl) string {
	bug := ""
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "knownBug" {
			bug = "a bug"
			if lit, ok := call.Args[len(call.Args)-1].(*ast.BasicLit); ok {
				bug = strings.Trim(lit.Value, "`\"")
			}
		}
		return true
	})
	return bug
}
