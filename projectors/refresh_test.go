package projectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// editedGeneration counts edits as Elasticsearch does.
type editedGeneration struct{ *memoryGeneration }

// Overwrite implements Overwriter.
func (g editedGeneration) Overwrite(ctx context.Context, version, last event.Offset, docs []views.Document) ([]Failure, error) {
	for _, d := range docs {
		g.store.mu.Lock()
		held := g.documents[d.ID].version
		g.store.mu.Unlock()
		if held > last {
			held = 0
		}
		if failures, err := g.Write(ctx, max(version, held), []views.Document{d}); err != nil || len(failures) > 0 {
			return failures, err
		}
	}
	return nil, nil
}

type editedStore struct{ *memory }

func (s editedStore) Create(ctx context.Context, info Info) (Generation, error) {
	g, err := s.memory.Create(ctx, info)
	if err != nil {
		return nil, err
	}
	return editedGeneration{g.(*memoryGeneration)}, nil
}

func (m *memory) edit(id string, bump event.Offset, body string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.generations[m.live]
	d := memoryDocument{version: g.documents[id].version + bump}
	if body != "" {
		d.body = []byte(body)
	}
	g.documents[id] = d
}

func TestRefreshWritesWhatTheMirrorHas(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	for i := range 10 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.reach(r, pglsn(s.lsn.Load()))
	eventually(t, "running", func() bool { return r.Status().State == StateRunning })
	sink.edit("3", 0, `{"by":"hand"}`)
	sink.edit("4", 0, "")
	sink.edit("77", 0, `{"nobody":"ordered"}`)
	before, _ := r.Watermark()
	check(t, r.Refresh(t.Context(), []string{"3", "4", "77"}))
	wantDocuments(t, sink, s.documents(view))
	if after, _ := r.Watermark(); after != before {
		t.Errorf("the watermark moved without an event: %v, then %v", before, after)
	}
	s.reach(r, s.commit(update(orders, "3", "1", "shipped")))
	wantDocuments(t, sink, s.documents(view))
}

// TestRefreshOverwritesEdits: where the sink gave an edit the next version, and nothing was committed since, the right
// document still wins; and so does what is committed next.
func TestRefreshOverwritesEdits(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, editedStore{sink})
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "new")))
	eventually(t, "running", func() bool { return r.Status().State == StateRunning })
	for range 3 { // each edit is above the repair before
		sink.edit("1", 1, `{"by":"hand"}`)
		sink.edit("2", 2, "")
		check(t, r.Refresh(t.Context(), []string{"1", "2"}))
		wantDocuments(t, sink, s.documents(view))
	}
	s.reach(r, s.commit(update(orders, "1", "1", "paid"), remove(orders, "2")))
	wantDocuments(t, sink, s.documents(view))
}

func TestRefreshUnderWrites(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, editedStore{sink})
	s.run(r)
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint(i))
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.reach(r, pglsn(s.lsn.Load()))
	eventually(t, "running", func() bool { return r.Status().State == StateRunning })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := r.Refresh(ctx, ids); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for i := range 300 {
		id := fmt.Sprint(i % 20)
		s.reach(r, s.commit(update(orders, id, "1", fmt.Sprint("status ", i))))
		if got := sink.document(id); !strings.Contains(got, fmt.Sprint("status ", i)) {
			t.Fatalf("stale after its token: %s", got)
		}
	}
	cancel()
	check(t, <-ended)
	wantDocuments(t, sink, s.documents(view))
}

func TestRefreshOfARunnerThatDoesNotRun(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	if err := s.runner(view, sink).Refresh(t.Context(), []string{"1"}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}
