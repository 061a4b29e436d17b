package archive

import (
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
)

// s3Store is a store that is spoken to as S3 is.
func s3Store(t *testing.T) *blob.Bucket {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("archive"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	query := url.Values{"region": {"eu-west-1"}, "endpoint": {server.URL}, "use_path_style": {"true"}}
	b, err := bucket.Open(t.Context(), "s3://archive?"+query.Encode(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestS3 goes through all that is asked of a store: files of one part and of several, listing, ranges, damage, loss.
func TestS3(t *testing.T) {
	w := newWorld(t, s3Store(t), journal.Retention{})
	w.append(80, 2, 100)
	w.archiveAll(Config{FileSize: 4 << 10, BlockSize: 1 << 10})
	w.append(4, 1, 7<<20) // a part of an upload has 5 MiB
	w.archiveAll(Config{FileSize: 64 << 20})
	w.append(1, 1, 1)
	w.trim(86)
	w.check()
	if v := w.verify(); len(v.Damage) > 0 || v.Batches != 86 {
		t.Fatalf("verified %+v", v)
	}
	// Written again, by someone who does not know that it is there.
	again := New(opened(w.store), w.archive.id, quiet())
	again.files.Store(&listing{})
	r := NewArchiver(Config{FileSize: 4 << 10, BlockSize: 1 << 10}, again, w.journal, known, quiet())
	first, last, _ := parseName(w.archive.id, w.names()[0])
	if err := r.write(t.Context(), first, last); err != nil {
		t.Errorf("the same file again: %v", err)
	}
	names := w.names()
	name := names[1]
	first, last, _ = parseName(w.archive.id, name)
	content, err := w.store.ReadAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/3] ^= 1
	w.put(name, content)
	w.fresh()
	w.foundIn("flipped byte", name, first, last)
	if err := w.store.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	w.fresh()
	w.foundIn("removed", name, first, last)
}
