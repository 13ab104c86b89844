// Package auth decides who a client is from files: passwords of CONNECT, and
// SCRAM-SHA-256 (RFC 5802, RFC 7677) as an authentication method of MQTT 5.
//
// # The users file
//
// One user per line; empty lines and lines that start with # are comments:
//
//	name:SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
//
// Salt and keys are in base64. The file holds no password and nothing that a
// client could present instead of one. [Line] makes such a line.
//
// A [File] is complete or an error: one bad line refuses the whole file, with
// its number, and a [File.Reload] that fails leaves the users as they were.
// [Chain] asks several backends in order and has the rule for clients without
// credentials. Both serve session.Authenticator and session.EnhancedAuth.
//
// A name that is unknown costs and looks the same as a wrong password: the
// computation is made with a verifier that nobody fits, whose salt does not
// change from one attempt to the next.
//
// # What it must not know
//
// Connections, sessions, the cluster. It imports session for the interfaces that
// it serves, and nothing of session imports it.
//
// # Goroutines and locks
//
// None of its own. A File is replaced as a whole behind an atomic pointer. At
// most as many password computations run at once as the process has processors.
package auth
