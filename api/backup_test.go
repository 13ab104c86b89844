package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func backupServer(t *testing.T, edit func(*fakeNode)) *httptest.Server {
	t.Helper()
	f := &fakeNode{}
	edit(f)
	s, err := NewServer(Options{Node: f, NodeID: "n1", Access: Access{AllowAnonymous: true}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h
}

// TestBackupStream: a backup that cannot begin is a problem, one that breaks off never looks whole.
func TestBackupStream(t *testing.T) {
	get := func(edit func(*fakeNode)) (*http.Response, string, error) {
		resp, err := http.Get(backupServer(t, edit).URL + client.PathBackup)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, string(b), err
	}
	resp, body, err := get(func(*fakeNode) {})
	if err != nil || resp.StatusCode != 200 || body != "backup" || resp.Header.Get("Content-Type") != client.BackupType ||
		!strings.Contains(resp.Header.Get("Content-Disposition"), "flotilla-20231114T221320Z.backup") {
		t.Errorf("%v %v %q %v", resp.StatusCode, err, body, resp.Header)
	}
	busy := &GuardError{Code: client.CodeOperationInProgress, Detail: "a restore is not finished", Status: 409}
	resp, body, err = get(func(f *fakeNode) { f.err = busy })
	if err != nil || resp.StatusCode != 409 || resp.Header.Get("Content-Type") != problemType || !strings.Contains(body, client.PathBackup) {
		t.Errorf("%v %v %q %v", resp.StatusCode, err, body, resp.Header)
	}
	if _, body, err = get(func(f *fakeNode) { f.status.ClusterID = "late" }); err == nil {
		t.Errorf("a backup that broke off was read to its end: %q", body)
	}
}

// TestRestoreUpload: the body reaches the node as it comes.
func TestRestoreUpload(t *testing.T) {
	h := backupServer(t, func(*fakeNode) {})
	resp, err := http.Post(h.URL+client.PathRestore, client.BackupType, strings.NewReader("backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 202 || resp.Header.Get("Location") != client.PathOperations+"/op-1" {
		t.Errorf("%v %v", resp.StatusCode, resp.Header)
	}
	c, err := client.New(client.Options{Endpoints: []string{h.URL}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(s string) error {
		_, err := c.Restore(t.Context(), int64(len(s)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil })
		return err
	}
	if err := send("backup"); err != nil {
		t.Error(err)
	}
	large := strings.Repeat("x", 3*maxBody)
	var p *client.Problem
	if err := send(large); !errors.As(err, &p) || p.Status != 422 || !strings.Contains(p.Detail, "12582912 of 12582912 bytes") {
		t.Errorf("a large body: %v", err)
	}
}
