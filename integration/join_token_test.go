package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestJoinTokenIsNoTicketForOthers: a token that is used up, expired, taken back, of another cluster or made up lets nobody
// in: the process ends with 9, nobody becomes a member, and the same directory comes in with a token that is good.
func TestJoinTokenIsNoTicketForOthers(t *testing.T) {
	long(t)
	c, foreign := harness.Start(t, harness.Options{Nodes: 1}), harness.Start(t, harness.Options{Nodes: 1})
	n1 := c.Nodes[0]
	type token struct {
		ID, Token string
		ExpiresAt time.Time `json:"expires_at"`
	}
	mint := func(at *harness.Node, args ...string) (made token) {
		t.Helper()
		out, code := runAs(t, at, append([]string{"cluster", "token", "create", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil || made.Token == "" {
			t.Fatalf("token create: %d %s", code, out)
		}
		return made
	}
	once, brief, back := mint(n1, "--uses", "1"), mint(n1, "--uses", "5", "--ttl", "1s"), mint(n1, "--uses", "5")
	if out, code := runAs(t, n1, "cluster", "token", "revoke", back.ID); code != 0 {
		t.Fatalf("token revoke: %d %s", code, out)
	}
	over := brief.ExpiresAt.Add(3 * time.Second) // the clock of the control group goes by its leader's ticks
	harness.Wait(t, 30*time.Second, "the brief token to expire", func(context.Context) error {
		if now := time.Now(); now.Before(over) {
			return fmt.Errorf("it is %v, and goes until %v", now, over)
		}
		return nil
	})
	n2, n3 := c.Add(t), c.Add(t)
	if err := n2.Launch("--join-token", once.Token); err != nil {
		t.Fatal(err)
	}
	n2.WaitReady(t)
	for name, tok := range map[string]token{
		"used up": once, "expired": brief, "taken back": back, "of another cluster": mint(foreign.Nodes[0], "--uses", "5"), "made up": {Token: "flotilla-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
	} {
		if err := n3.Launch("--join-token", tok.Token); err != nil {
			t.Fatal(err)
		}
		if code := n3.WaitExit(t, 30*time.Second); code != 9 {
			t.Errorf("a token that is %s: exit %d, want 9:\n%s", name, code, strings.Join(n3.Tail(), "\n"))
		}
		if out, code := runAs(t, n1, "node", "ls", "-o", "name"); code != 0 || out != "node/n1\nnode/n2\n" {
			t.Errorf("a token that is %s: the members are %q", name, out)
		}
	}
	if err := n3.Launch("--join-token", mint(n1, "--uses", "1").Token); err != nil {
		t.Fatal(err)
	}
	n3.WaitReady(t)
	c.WaitHealthy(t, time.Minute)
}
