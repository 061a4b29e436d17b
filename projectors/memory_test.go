package projectors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// memory is a sink whose faults are scripted. What was written survives the runner that wrote it.
type memory struct {
	mu          sync.Mutex
	generations map[int]*memoryGeneration
	live        int
	calls       int

	// before is asked before each operation, after when it is done: an error is the operation's. Both may block.
	before, after func(operation string) error
	// refuse is asked for each document.
	refuse func(views.Document) error
}

type memoryGeneration struct {
	store      *memory
	info       Info
	documents  map[string]memoryDocument
	checkpoint *Checkpoint
	saves      int
	largest    int // documents of one Write
}

type memoryDocument struct {
	version event.Offset
	body    []byte // nil when deleted
}

func newMemory() *memory { return &memory{generations: map[int]*memoryGeneration{}} }

// do is one operation with its faults.
func (m *memory) do(operation string, work func() error) error {
	m.mu.Lock()
	before, after := m.before, m.after
	m.calls++
	m.mu.Unlock()
	if before != nil {
		if err := before(operation); err != nil {
			return err
		}
	}
	m.mu.Lock()
	err := work()
	m.mu.Unlock()
	if err == nil && after != nil {
		err = after(operation)
	}
	return err
}

// script sets what the next operations do.
func (m *memory) script(before func(string) error, refuse func(views.Document) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.refuse = before, refuse
}

func (m *memory) Generations(context.Context) (infos []Info, err error) {
	err = m.do("generations", func() error {
		for _, number := range slices.Sorted(maps.Keys(m.generations)) {
			info := m.generations[number].info
			info.Live = number == m.live
			infos = append(infos, info)
		}
		return nil
	})
	return infos, err
}

func (m *memory) Create(_ context.Context, info Info) (g Generation, err error) {
	err = m.do("create", func() error {
		created := &memoryGeneration{store: m, info: info, documents: map[string]memoryDocument{}}
		m.generations[info.Number], g = created, created
		return nil
	})
	return g, err
}

func (m *memory) Open(_ context.Context, number int) (g Generation, err error) {
	err = m.do("open", func() error {
		found, ok := m.generations[number]
		if !ok {
			return fmt.Errorf("generation %d: %w", number, ErrNoGeneration)
		}
		g = found
		return nil
	})
	return g, err
}

func (m *memory) Promote(_ context.Context, number int) error {
	return m.do("promote", func() error {
		if m.generations[number] == nil {
			return fmt.Errorf("generation %d: %w", number, ErrNoGeneration)
		}
		m.live = number
		return nil
	})
}

func (m *memory) Retire(_ context.Context, number int) error {
	return m.do("retire", func() error {
		if m.live == number {
			return errors.New("generation is live")
		}
		delete(m.generations, number)
		return nil
	})
}

func (g *memoryGeneration) Write(_ context.Context, version event.Offset, documents []views.Document) (failures []Failure, err error) {
	err = g.store.do("write", func() error {
		if g.store.generations[g.info.Number] != g {
			return Fatalf("", "generation %d is gone: %w", g.info.Number, ErrLost)
		}
		g.largest = max(g.largest, len(documents))
		for i, d := range documents {
			if g.store.refuse != nil {
				if err := g.store.refuse(d); err != nil {
					failures = append(failures, Failure{Index: i, Err: err})
					continue
				}
			}
			if old, ok := g.documents[d.ID]; ok && old.version > version {
				continue
			}
			g.documents[d.ID] = memoryDocument{version: version, body: bytes.Clone(d.Body)}
		}
		return nil
	})
	return failures, err
}

func (g *memoryGeneration) Checkpoint(context.Context) (cp Checkpoint, found bool, err error) {
	err = g.store.do("checkpoint", func() error {
		if g.checkpoint != nil {
			cp, found = *g.checkpoint, true
		}
		return nil
	})
	return cp, found, err
}

func (g *memoryGeneration) SaveCheckpoint(_ context.Context, cp Checkpoint) error {
	return g.store.do("save", func() error {
		g.checkpoint = &cp
		g.saves++
		return nil
	})
}

func (g *memoryGeneration) IDs(_ context.Context, visit func(string) error) error {
	var ids []string
	err := g.store.do("ids", func() error {
		for id, d := range g.documents {
			if d.body != nil {
				ids = append(ids, id)
			}
		}
		return nil
	})
	for _, id := range ids {
		if err == nil {
			err = visit(id)
		}
	}
	return err
}

// documents are those of the live generation.
func (m *memory) documents() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]string{}
	if g := m.generations[m.live]; g != nil {
		for id, d := range g.documents {
			if d.body != nil {
				found[id] = string(d.body)
			}
		}
	}
	return found
}

// document is the body of a document of the live generation, or "".
func (m *memory) document(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.generations[m.live]; g != nil {
		return string(g.documents[id].body)
	}
	return ""
}

// held is the live generation, and the numbers of all.
func (m *memory) held() (live *memoryGeneration, numbers []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generations[m.live], slices.Sorted(maps.Keys(m.generations))
}

// wantDocuments compares the live generation with what a view is.
func wantDocuments(t testing.TB, m *memory, want map[string]string) {
	t.Helper()
	got := m.documents()
	for id, body := range want {
		if got[id] != body {
			t.Errorf("document %s is\n%s, want\n%s", id, got[id], body)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("document %s should not be there", id)
		}
	}
}
