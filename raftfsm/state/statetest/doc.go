// Package statetest has an in-memory state.Store for tests: of the machines, and
// of the rooms above them. It keeps its pairs sorted, copies what it is given and
// hands out copies, as the real store does.
//
// It has no goroutines; one mutex guards the pairs.
package statetest
