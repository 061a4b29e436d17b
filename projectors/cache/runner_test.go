package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// The table and the view of the runner's tests.
var (
	textType     = row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}
	ordersSchema = &row.Schema{
		ID: 1, Version: 1, OID: 102, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
		Columns: []row.Column{{Name: "id", Type: textType}, {Name: "customer_id", Type: textType}, {Name: "serial", Type: textType}},
	}
)

const ordersYAML = `
view: orders
from: public.orders
fields: {id: , customer_id: , serial: }
cache: {ttl: 1h, lookups: [customer_id]}
`

type oneSchema struct{}

func (oneSchema) Schema(id uint32) (*row.Schema, bool) { return ordersSchema, id == ordersSchema.ID }

// pipeline is a journal, a mirror and a runner that writes to Redis.
type pipeline struct {
	t       *testing.T
	journal *journal.Journal
	mirror  *mirror.Mirror
	view    *views.View
	store   *Store
	runner  *projectors.Runner
	reader  *Reader
	lsn     pglogrepl.LSN
}

func newPipeline(t *testing.T, c *Client) *pipeline {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	p := &pipeline{t: t, lsn: 1000}
	home, err := control.OpenPebble(filepath.Join(dir, "control"), log)
	must(t, err)
	t.Cleanup(func() { must(t, home.Close()) })
	letters, err := deadletter.Open(t.Context(), home)
	must(t, err)
	engine, err := segments.Open(filepath.Join(dir, "journal"), segments.Config{}, log)
	must(t, err)
	p.journal, err = journal.Open(t.Context(), engine, oneSchema{}, journal.Config{}, log)
	must(t, err)
	t.Cleanup(func() { must(t, p.journal.Close()) })
	p.mirror, err = mirror.Open(mirror.Config{Dir: filepath.Join(dir, "mirror")}, oneSchema{}, log)
	must(t, err)
	t.Cleanup(func() { must(t, p.mirror.Close()) })
	must(t, p.mirror.StartLoad(ordersSchema, []mirror.LoadRange{{}}))
	must(t, p.mirror.FinishRange(ordersSchema.OID, 0, p.lsn, 0))
	p.mirror.Advance(p.lsn)
	must(t, p.mirror.FinishLoad(t.Context(), ordersSchema.OID))
	defs, err := views.Parse("test.yaml", []byte(ordersYAML))
	must(t, err)
	compiled, err := views.Compile(defs, []*row.Schema{ordersSchema})
	must(t, err)
	p.view = compiled[0]
	must(t, p.mirror.EnsureIndexes(t.Context(), p.view.Indexes()))
	p.store = c.Store(p.view)
	cfg := projectors.Config{Name: "orders.cache", Sink: "cache", Epoch: "7-1", CheckpointInterval: time.Millisecond}
	cfg.Backoff.Min, cfg.Backoff.Max = time.Millisecond, 20*time.Millisecond
	p.runner, err = projectors.NewRunner(cfg, p.view, p.store, p.mirror, p.journal, letters, log)
	must(t, err)
	p.reader = NewReader(p.store, p.compose)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.runner.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return p
}

func (p *pipeline) compose(ctx context.Context, ids []string) (docs []views.Document, version event.Offset, err error) {
	s, err := p.mirror.Snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	composer := p.view.Composer()
	for _, id := range ids {
		key, err := p.view.Key(id)
		if err != nil {
			return nil, 0, err
		}
		doc, err := composer.Compose(s, key)
		if err != nil {
			return nil, 0, err
		}
		docs = append(docs, doc)
	}
	return docs, s.Progress().Offset, nil
}

// put commits a transaction that writes one order, or deletes it when there is no customer, and returns its token.
func (p *pipeline) put(id, customer, serial string) (pglogrepl.LSN, error) {
	tx := event.Transaction{XID: uint32(p.lsn), CommitLSN: p.lsn + 8, EndLSN: p.lsn + 16, CommitTime: time.Now()}
	part := journal.Part{Transaction: tx, Complete: true, Events: make([]event.Event, 1)}
	ev := &part.Events[0]
	*ev = event.Event{Transaction: &part.Transaction, Op: event.Insert, Schema: ordersSchema, After: row.Of(&id, &customer, &serial)}
	if customer == "" {
		ev.Op, ev.Before, ev.After = event.Delete, row.Of(&id, nil, nil), nil
	}
	batch := p.mirror.Begin()
	if err := batch.Apply(ev); err != nil {
		return 0, err
	}
	offset, err := p.journal.Append(context.Background(), []journal.Part{part})
	if err != nil {
		return 0, err
	}
	p.lsn = tx.EndLSN
	return tx.EndLSN, batch.Commit(offset, tx.EndLSN, true)
}

// read waits for a token and reads, again when the cache says that it has lost data, as a client does.
func (p *pipeline) read(token pglogrepl.LSN, id string) (Document, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if _, err := p.runner.Wait(ctx, token); err != nil {
			return Document{}, fmt.Errorf("%w: %+v", err, p.runner.Status())
		}
		doc, err := p.reader.Get(ctx, id)
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return doc, err
		}
		p.runner.Recheck()
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// TestReadYourWritesWhileRedisLosesData writes and reads one order after the other, while Redis is emptied and
// becomes an older copy of itself. No answer may be older than the write before it.
func TestReadYourWritesWhileRedisLosesData(t *testing.T) {
	c := testClient(t, nil)
	p := newPipeline(t, c)
	token, err := p.put("first", "1", "0")
	must(t, err)
	_, err = p.read(token, "first")
	must(t, err)

	var rounds atomic.Int64
	var writer sync.WaitGroup
	done := make(chan struct{})
	writer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			id, customer := fmt.Sprint(n%7), fmt.Sprint(1+n%3)
			if n%5 == 4 {
				customer = ""
			}
			token, err := p.put(id, customer, fmt.Sprint(n))
			if err != nil {
				t.Error(err)
				return
			}
			doc, err := p.read(token, id)
			switch {
			case customer == "" && errors.Is(err, ErrNotFound):
			case err != nil:
				t.Errorf("write %d: %v", n, err)
				return
			case customer == "" || !strings.Contains(string(doc.Body), fmt.Sprintf(`"serial":"%d"`, n)):
				t.Errorf("write %d of order %s: read %s", n, id, doc.Body)
				return
			}
			rounds.Add(1)
		}
	})
	more := func(n int64) {
		t.Helper()
		from := rounds.Load()
		devstack.Eventually(t, time.Minute, func() error {
			if t.Failed() {
				return nil
			}
			if now := rounds.Load(); now < from+n {
				return fmt.Errorf("%d of %d rounds; %+v", now-from, n, p.runner.Status())
			}
			return nil
		})
	}
	for range 3 {
		more(30)
		restore(t, c, nil)
		more(30)
		older := dump(t, c)
		more(30)
		restore(t, c, older)
	}
	more(30)
	close(done)
	writer.Wait()
	t.Logf("%d rounds", rounds.Load())
}

// TestIdleLossIsNoticedByAReader: nothing is written, and still what was lost comes back.
func TestIdleLossIsNoticedByAReader(t *testing.T) {
	c := testClient(t, nil)
	p := newPipeline(t, c)
	token, err := p.put("1", "7", "0")
	must(t, err)
	_, err = p.read(token, "1")
	must(t, err)
	restore(t, c, nil)
	if _, err := p.reader.Get(t.Context(), "1"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if doc, err := p.read(token, "1"); err != nil || len(doc.Body) == 0 {
		t.Errorf("got %+v, %v", doc, err)
	}
	page, err := p.reader.Lookup(t.Context(), "customer_id", "7", "", 10)
	if err != nil || len(page.Documents) != 1 {
		t.Errorf("got %+v, %v", page, err)
	}
}
