// Package peer owns the frames between nodes: one ordered, multiplexed link
// per pair of nodes and direction of dialling.
package peer
