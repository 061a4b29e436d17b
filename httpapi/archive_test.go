package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/row"
)

func TestTheArchiveIsAskedFor(t *testing.T) {
	store := memblob.OpenBucket(nil)
	defer store.Close()
	var archiver *archive.Archiver
	w := newWorld(t, func(_ *Config, parts *Parts) {
		id, err := journal.ParseID(parts.Journal.Identity())
		must(t, err)
		a := archive.New(func(context.Context) (*blob.Bucket, error) { return store, nil }, id, quiet)
		parts.Journal.Attach(a)
		archiver = archive.NewArchiver(archive.Config{}, a, parts.Journal, noSchemas{}, quiet)
		must(t, archive.Register(parts.Metrics, archiver))
		parts.Archive = archiver
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- archiver.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	const path = "/v1/journal/archive"
	head := w.journal.Head().Offset.Sequence()
	if started := into[ArchiveStatus](t, w.do(http.MethodPost, path).want(t, 202).header(t, "Location", path)); started.Wanted != head {
		t.Fatalf("asked: %+v", started)
	}
	devstack.Eventually(t, 20*time.Second, func() error {
		now := into[ArchiveStatus](t, w.get(path).want(t, 200))
		if now.LastBatch != head || now.Files != 1 || now.State != archive.StateRunning || now.Behind != 0 {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if s := w.server.Status().Journal.Archive; s == nil || s.LastBatch != head {
		t.Errorf("status: %+v", s)
	}
	if text := string(w.get("/metrics").body); !strings.Contains(text, "lanternist_archive_files 1\n") || !strings.Contains(text, "lanternist_archive_behind_bytes 0\n") {
		t.Errorf("metrics:\n%s", text)
	}
}

// noSchemas has no definitions.
type noSchemas struct{}

// Schema implements journal.Schemas.
func (noSchemas) Schema(uint32) (*row.Schema, bool) { return nil, false }

func TestThereIsNoArchive(t *testing.T) {
	w := newWorld(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w.do(method, "/v1/journal/archive").want(t, 501)
	}
	if s := w.server.Status().Journal.Archive; s != nil {
		t.Errorf("status: %+v", s)
	}
}
