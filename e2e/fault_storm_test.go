package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultproxy"
)

// storm is an installation of the shop and a ledger, on services of its own with a proxy before each, under traffic, with readers
// whose answers are judged, and a daemon that is started again whenever it ends.
type storm struct {
	*installation
	server *devstack.Server // Postgres
	stack  *devstack.Stack  // Elasticsearch and Redis
	source *faultproxy.Proxy
	search *faultproxy.Proxy
	cache  *faultproxy.Proxy
	keeper *keeper
	audit  *audit
	ledger *ledger
	pool   *pgxpool.Pool // of what writes; not through a proxy
	seed   uint64
	alone  bool // one fault comes at a time

	shop    *stormTraffic
	readers []*stormReader
	beside  sync.WaitGroup
	end     context.CancelFunc // of what runs beside
	failed  chan error         // of what runs beside: what no fault explains
}

// How the storm writes: shop transactions, ledger transactions, and those of the readers come to 300 a second.
const (
	stormShopRate    = 235
	stormLedgerRate  = 50
	stormReaders     = 2
	stormReaderEvery = 130 * time.Millisecond
	stormRate        = 300
)

// senderTimeout is the source's wal_sender_timeout: a network that is away longer costs the connection.
const senderTimeout = 5 * time.Second

// settleWithin is how long everything may take to be right again after a fault: a half-open connection is given up after a
// minute, and a machine may be slow.
const settleWithin = 5 * time.Minute

// newStorm starts everything but the traffic.
func newStorm(t *testing.T, random *rand.Rand) *storm {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	s := &storm{failed: make(chan error, 64), seed: random.Uint64()}
	s.server = devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{
		"wal_sender_timeout": senderTimeout.String(), "checkpoint_timeout": "30s",
	}})
	s.stack = devstack.PrivateStack(t, devstack.Options{
		Elasticsearch: &devstack.ElasticsearchOptions{}, Redis: &devstack.RedisOptions{Persist: true},
	})
	s.source, s.search, s.cache = proxyTo(t, s.server.URL()), proxyTo(t, s.stack.Elasticsearch()), proxyTo(t, s.stack.Redis())
	database := s.server.Database()
	s.installation = installShop(t, options{
		database: database, search: s.stack.Elasticsearch(), cache: s.stack.Redis(),
		source: throughProxy(t, database.URL(), s.source), toSearch: throughProxy(t, s.stack.Elasticsearch(), s.search),
		toCache: throughProxy(t, s.stack.Redis(), s.cache), extra: map[string]string{"public.ledger": ledgerView},
	}, small)
	database.Exec(ledgerTable)
	s.audit = s.startAudit(append(shop.Tables(), "public.ledger"))
	pool, err := pgxpool.New(t.Context(), database.URL()+"&pool_max_conns=20&connect_timeout=5")
	if err != nil {
		t.Fatal(err)
	}
	s.pool = pool
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	s.keeper = s.keep(path)
	t.Cleanup(func() {
		s.keeper.abandon()
		if d := s.keeper.current(); t.Failed() && d != nil {
			t.Logf("the last daemon's log ends:\n%s", tail(d.log.text(), 60))
		}
		pool.Close()
	})
	s.settle(t)
	return s
}

func proxyTo(t *testing.T, service string) *faultproxy.Proxy {
	t.Helper()
	u, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	p, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func throughProxy(t *testing.T, service string, p *faultproxy.Proxy) string {
	t.Helper()
	u, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = p.Address()
	return u.String()
}

// blow starts the traffic and the readers. They end with the test at the latest.
func (s *storm) blow() {
	ctx, cancel := context.WithCancel(context.Background())
	s.end = cancel
	s.ledger = newLedger(s.pool, stormLedgerRate, 3, s.seed)
	s.shop = &stormTraffic{ledger: s.ledger, rate: stormShopRate, seed: s.seed}
	writers := s.ledger.workers
	for n := range stormReaders {
		s.readers = append(s.readers, &stormReader{storm: s, ledgerWriter: s.ledger.reader(), fromSearch: n%2 == 1, ends: map[string]int{}})
	}
	s.beside.Go(func() { s.report(s.ledger.run(ctx, writers)) })
	s.beside.Go(func() { s.shop.run(ctx) })
	for _, r := range s.readers {
		s.beside.Go(func() { s.report(r.run(ctx)) })
	}
	s.t.Cleanup(s.calm)
}

// calm ends what runs beside. It may be called again.
func (s *storm) calm() {
	s.end()
	s.beside.Wait()
}

func (s *storm) report(err error) {
	if err != nil {
		select {
		case s.failed <- err:
		default: // the first ones tell
		}
	}
}

// wrong fails the test when something beside it has failed, or the daemon has ended as it must not.
func (s *storm) wrong(t *testing.T) {
	t.Helper()
	for {
		select {
		case err := <-s.failed:
			t.Error(err)
			continue
		default:
		}
		break
	}
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	for _, w := range s.keeper.wrong {
		t.Error(w)
	}
	s.keeper.wrong = nil
}

// silence stops all writing until the returned function is called.
func (s *storm) silence() (noise func()) {
	s.ledger.gate.Lock()
	return s.ledger.gate.Unlock
}

// settle waits until every view in every sink shows everything committed until now, and every projector runs without a complaint.
func (s *storm) settle(t *testing.T) {
	t.Helper()
	var token string
	devstack.Eventually(t, settleWithin, func() (err error) {
		if token == "" {
			if err := s.pool.QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&token); err != nil {
				return err
			}
		}
		if err := s.get("/readyz", nil); err != nil {
			return err
		}
		for _, view := range s.views {
			for _, path := range []string{"/none", "/search"} {
				a, err := s.ask(http.MethodGet, "/v1/views/"+view+path, url.Values{"after": {token}, "wait": {"20s"}})
				if err != nil {
					return err
				}
				if a.status != http.StatusOK && a.status != http.StatusNotFound {
					return fmt.Errorf("%s%s after %s: status %d: %s", view, path, token, a.status, a.body)
				}
			}
		}
		var st status
		if err := s.get("/v1/status", &st); err != nil {
			return err
		}
		for _, p := range st.Projectors {
			if p.Parked > 0 || p.Error != "" || p.State != "running" {
				return fmt.Errorf("%s is %s with %d dead letters: %s", p.Projector, p.State, p.Parked, p.Error)
			}
		}
		return nil
	})
}

// judge compares source, record and every sink, row by row, while nothing is written.
func (s *storm) judge(t *testing.T) (compared int) {
	t.Helper()
	in := *s.installation
	in.t = t
	rows := map[int64]int64{}
	r, err := s.pool.Query(t.Context(), "SELECT id, serial FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	for r.Next() {
		var id, serial int64
		if err := r.Scan(&id, &serial); err != nil {
			t.Fatal(err)
		}
		rows[id] = serial
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	source := s.ledger.rows("source", rows)
	source.report(t)
	for place, docs := range map[string]documents{"Elasticsearch": in.searchDocuments("ledger"), "Redis": in.cacheDocuments("ledger")} {
		parts := &findings{place: place + ", documents"}
		held := heldDocuments(parts, docs)
		parts.report(t)
		f := s.ledger.rows(place, held)
		f.report(t)
		compared += f.compared
	}
	return compared + in.compare(stormTruth)
}

func stormTruth(view string) string {
	if view == "ledger" {
		return ledgerTruth
	}
	return shop.Truth(view)
}

// judgeJournal compares the journal of the daemon, which it stops, with what was committed: transaction by transaction, and row
// by row with the ledger's record.
func (s *storm) judgeJournal(t *testing.T) {
	t.Helper()
	s.settle(t) // what was written since everything was compared
	if err := s.keeper.stop(t.Context()); err != nil {
		t.Error(err)
	}
	s.wrong(t)
	s.audit.compare()
	f := s.ledger.history(s.ledgerHistory())
	f.report(t)
	t.Logf("%d values of %d rows of the ledger are in the journal, each once, in the order of their commits", f.compared, s.ledger.size())
}

func (l *ledger) size() (rows int) {
	for _, w := range l.workers {
		rows += len(w.past)
	}
	return rows
}

// stormTraffic is the shop's traffic over a source that comes and goes.
type stormTraffic struct {
	ledger *ledger // whose gate silences it as well
	rate   int
	seed   uint64

	committed atomic.Int64 // by earlier runs
	restarts  atomic.Int64
}

// trafficSlice is how long the shop's traffic runs between two looks at the gate.
const trafficSlice = 3 * time.Second

func (s *stormTraffic) run(ctx context.Context) {
	for n := uint64(0); ctx.Err() == nil; n++ {
		s.slice(ctx, n)
	}
}

func (s *stormTraffic) slice(ctx context.Context, n uint64) {
	s.ledger.gate.RLock()
	defer s.ledger.gate.RUnlock()
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trafficSlice)
	defer cancel()
	tr := &shop.Traffic{Pool: s.ledger.pool, Workers: 6, Rate: s.rate, Seed: s.seed + n}
	if err := tr.Run(ctx); err != nil && ctx.Err() == nil {
		s.restarts.Add(1) // the source is away
		<-ctx.Done()
	}
	s.committed.Add(tr.Counts().Committed)
}

// stormReader writes a row and reads it with a token, again and again. An answer is right or it is refused; it is never old.
type stormReader struct {
	*ledgerWriter
	storm      *storm
	fromSearch bool

	answers atomic.Int64
	mu      sync.Mutex
	ends    map[string]int // what was refused, by status
}

// reader is one more writer, of one row.
func (l *ledger) reader() *ledgerWriter {
	n := len(l.workers)
	w := newLedger(l.pool, 1, 1, uint64(n)).workers[0]
	w.ledger, w.number, w.first = l, int64(n), int64(n+1)*ledgerStride
	l.workers = append(l.workers, w)
	return w
}

func (r *stormReader) run(ctx context.Context) error {
	tick := time.NewTicker(stormReaderEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		serial, token, err := r.write(ctx)
		if err != nil {
			return fmt.Errorf("reader %d: %w", r.number, err)
		}
		if token == "" {
			continue
		}
		if err := r.read(ctx, serial, token); err != nil {
			return fmt.Errorf("reader %d: %w", r.number, err)
		}
	}
}

// write gives the row a value, and returns a token for it; none when the source is away.
func (r *stormReader) write(ctx context.Context) (serial int64, token string, err error) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if ctx.Err() != nil {
		return 0, "", nil
	}
	r.serial++
	committed, err := r.commit(ctx, []change{{r.first, r.serial}}, false)
	if err != nil || !committed {
		return 0, "", err
	}
	if err := r.pool.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&token); err != nil {
		return 0, "", nil // the source is away
	}
	return r.serial, token, nil
}

func (r *stormReader) read(ctx context.Context, serial int64, token string) error {
	id := fmt.Sprint(r.first)
	path, query := "/v1/views/ledger/"+id, url.Values{"after": {token}, "wait": {"5s"}}
	if r.fromSearch {
		path = "/v1/views/ledger/search"
		query.Set("filter", "id:"+id)
	}
	a, err := r.storm.ask(http.MethodGet, path, query)
	if err != nil {
		if ctx.Err() == nil {
			r.refused("no answer")
		}
		return nil // the daemon is away
	}
	switch a.status {
	case http.StatusOK:
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		r.refused(fmt.Sprint(a.status))
		return nil
	default:
		return fmt.Errorf("%s after %s: status %d: %s", path, token, a.status, a.body)
	}
	body := a.body
	if r.fromSearch {
		var found struct {
			Documents []struct {
				Document json.RawMessage `json:"document"`
			} `json:"documents"`
		}
		if err := json.Unmarshal(a.body, &found); err != nil || len(found.Documents) != 1 {
			return fmt.Errorf("stale answer: %s after %s, serial %d: %s %w", path, token, serial, a.body, err)
		}
		body = found.Documents[0].Document
	}
	var doc struct{ Serial int64 }
	if err := json.Unmarshal(body, &doc); err != nil || doc.Serial != serial {
		return fmt.Errorf("stale answer: %s after %s says %s, want serial %d; %w", path, token, body, serial, err)
	}
	r.answers.Add(1)
	return nil
}

func (r *stormReader) refused(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[why]++
}

// tally is what the traffic and the readers have done.
func (s *storm) tally() string {
	var b strings.Builder
	l := s.ledger
	fmt.Fprintf(&b, "%d transactions committed: %d of the shop, %d of the ledger (%d rolled back, %d cut off and found out about)",
		s.transactions(), s.shop.committed.Load(), l.committed.Load(), l.rolledBack.Load(), l.unknown.Load())
	for _, r := range s.readers {
		sink := "the cache"
		if r.fromSearch {
			sink = "search"
		}
		r.mu.Lock()
		fmt.Fprintf(&b, "\n%d answers from %s, none stale; refused: %v", r.answers.Load(), sink, maps.Clone(r.ends))
		r.mu.Unlock()
	}
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	for why, n := range s.keeper.ends {
		fmt.Fprintf(&b, "\nthe daemon %s: %d times", why, n)
	}
	for _, why := range s.keeper.why {
		fmt.Fprintf(&b, "\n  %s", why)
	}
	return b.String()
}

func (s *storm) transactions() int64 { return s.shop.committed.Load() + s.ledger.committed.Load() }
