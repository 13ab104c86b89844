// Package ca signs the certificates of a cluster's nodes: a certificate
// authority for nodes, and for nobody else.
//
// The authority makes the cluster's id. Its own certificate carries the id and
// may sign for names of that cluster only (name constraints), so that an
// authority can neither be mistaken for that of another cluster nor lend its
// signature to a web server. The founders take the id from their certificates.
//
// A node's certificate names the cluster, the role and the node in the two
// names that package transport demands (transport/certificate.go), for both
// uses, since nodes dial each other. The public key may come in a signing
// request; of everything else that a request says nothing is taken over.
//
// # What it must not know
//
// Networks, the membership, who may have a certificate: that is decided by
// whoever holds the key. There are no goroutines and no locks; an [Authority]
// never changes.
package ca
