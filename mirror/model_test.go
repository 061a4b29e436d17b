package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// The model: a source table as a map, its history as a list of changes in the form Postgres sends them, sessions
// as copies of the map, and a stream that delivers the history to the mirror at its own pace while sessions are
// loaded at theirs. Whatever the order, the mirror must end up as the map.

const modelTable = 100

// content is a row by column name; a column that is not there is null.
type content map[string]string

// sourceChange is one change of the source's history with the truth about it.
type sourceChange struct {
	ev            event.Event // as it comes from Postgres
	before, after content     // the whole row; nil when there is none
	end           bool        // of its transaction
}

// session is a snapshot of the source.
type session struct {
	point  pglogrepl.LSN
	schema *row.Schema
	rows   map[string]content
}

// modelRange is one range of the load: the keys that begin with one of its letters.
type modelRange struct {
	letters string
	session *session // that it is being loaded from
	left    []string // keys not loaded yet
}

type model struct {
	t        *rapid.T
	registry *registry
	fs       *vfs.MemFS
	m        *Mirror
	old      []*Mirror // crashed; closed at the end

	// the source
	schema  *row.Schema
	rows    map[string]content
	history []sourceChange
	wal     pglogrepl.LSN // its end: nothing that comes is before it
	columns int           // columns ever added
	serial  int           // makes values distinct
	full    bool          // REPLICA IDENTITY FULL

	// the pipeline
	sessions []*session
	ranges   []*modelRange
	points   map[pglogrepl.LSN]bool // used by the load under way
	resumed  bool                   // the load went on after a crash
	crashed  *vfs.MemFS             // what a crash in the middle of a load has left; the model goes on from it
	complete bool
	indexes  []Index
	fillings []*filling // of some of them, under way

	// the capture
	captured  bool
	published int          // history before it was not sent, since the table was added
	journaled map[int]bool // by place in the history: whether the change is in the journal, once it was delivered
}

func TestMirrorEqualsSourceWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		md := newModel(t)
		defer md.close()
		t.Repeat(map[string]func(*rapid.T){
			"transact": md.transact,
			"write":    md.transact,
			"swap":     md.swap,
			"deliver":  md.deliver,
			"stream":   md.deliver,
			"session":  md.openSession,
			"load":     md.load,
			"copy":     md.load,
			"finish":   md.tryFinish,
			"alter":    md.alter,
			"index":    md.declare,
			"fill":     md.fill,
			"fill on":  md.fill,
			"remove":   md.removeTable,
			"add":      md.addTable,
			"crash":    md.crash,
			"reload":   md.reload,
		})
		md.t = t
		md.drain()
	})
}

func newModel(t *rapid.T) *model {
	md := &model{
		t: t, registry: &registry{}, fs: vfs.NewCrashableMem(), rows: map[string]content{}, wal: 1000,
		points: map[pglogrepl.LSN]bool{}, captured: true, journaled: map[int]bool{}, full: rapid.IntRange(0, 4).Draw(t, "full") == 0,
	}
	md.schema = md.register("id", "fk", "big1", "big2", "n")
	for range rapid.IntRange(0, 8).Draw(t, "rows") {
		md.insert(md.letter(), false)
	}
	md.history = nil // the stream begins here
	md.open()
	md.startLoad()
	return md
}

func (md *model) register(columns ...string) *row.Schema {
	s := md.registry.define(modelTable, "things", columns...)
	if md.full {
		s.Identity = 'f'
	}
	return s
}

func (md *model) must(err error) {
	md.t.Helper()
	if err != nil {
		md.t.Fatal(err)
	}
}

func (md *model) open() {
	m, err := Open(Config{Dir: "mirror", CacheSize: 1 << 20, MemTableSize: 1 << 20, fs: md.fs, bulkBytes: 150, bulkBytesMin: 1}, md.registry, slog.New(slog.DiscardHandler))
	md.must(err)
	md.m = m
}

func (md *model) close() {
	for _, m := range append(md.old, md.m) {
		if m == nil {
			continue
		}
		if err := m.Close(); err != nil {
			md.t.Fatal(err)
		}
	}
}

// --- the source

func (md *model) letter() string {
	return string(rapid.SampledFrom([]rune("abcdef")).Draw(md.t, "key"))
}

func (md *model) fresh(prefix string) string {
	md.serial++
	return fmt.Sprintf("%s%d", prefix, md.serial)
}

// values is the row in the columns of a schema.
func values(s *row.Schema, c content) row.Row {
	var vs []string
	for _, column := range s.Columns {
		v, ok := c[column.Name]
		if !ok {
			v = null
		}
		vs = append(vs, v)
	}
	return rowOf(vs...)
}

func (md *model) record(op event.Op, before, after content, unchangedColumns []string) {
	ev := event.Event{Op: op, Schema: md.schema}
	if after != nil {
		sent := maps.Clone(after)
		for _, c := range unchangedColumns {
			sent[c] = unchanged
		}
		ev.After = values(md.schema, sent)
	}
	moved := before != nil && (after == nil || before["id"] != after["id"])
	switch {
	case before == nil:
	case md.full:
		ev.Before = values(md.schema, before)
	case moved:
		ev.Before = keyTuple(md.schema, before["id"])
	}
	md.history = append(md.history, sourceChange{ev: ev, before: before, after: after})
}

func (md *model) insert(key string, recorded bool) {
	if md.rows[key] != nil {
		return
	}
	c := content{"id": key, "n": md.fresh("n")}
	if fk := rapid.SampledFrom([]string{"", "p", "q"}).Draw(md.t, "fk"); fk != "" {
		c["fk"] = fk
	}
	for _, name := range []string{"big1", "big2"} {
		switch rapid.IntRange(0, 3).Draw(md.t, name) {
		case 0:
		case 1:
			c[name] = md.fresh("small")
		default:
			c[name] = md.fresh("TOAST")
		}
	}
	if md.has("fk2") {
		c["fk2"] = "p"
	}
	c = md.known(c)
	if recorded {
		md.record(event.Insert, nil, c, nil)
	}
	md.rows[key] = c
}

func (md *model) has(column string) bool { return md.schema.Column(column) >= 0 }

// known is c without what is no column.
func (md *model) known(c content) content {
	k := content{}
	for name, v := range c {
		if md.has(name) {
			k[name] = v
		}
	}
	return k
}

// update changes the row under key from, the key of which becomes to.
func (md *model) update(from, to string) {
	before := md.rows[from]
	if before == nil || (from != to && md.rows[to] != nil) {
		return
	}
	after := maps.Clone(before)
	after["id"] = to
	if rapid.Bool().Draw(md.t, "set n") {
		after["n"] = md.fresh("n")
	}
	if rapid.IntRange(0, 2).Draw(md.t, "set fk") == 0 {
		after["fk"] = rapid.SampledFrom([]string{"p", "q"}).Draw(md.t, "fk")
	}
	var kept []string
	for _, name := range []string{"big1", "big2"} {
		if rapid.IntRange(0, 3).Draw(md.t, "set "+name) == 0 {
			after[name] = md.fresh(rapid.SampledFrom([]string{"TOAST", "small"}).Draw(md.t, "size"))
		} else if v := before[name]; len(v) > 5 && v[:5] == "TOAST" {
			kept = append(kept, name)
		}
	}
	after = md.known(after)
	md.record(event.Update, before, after, slices.DeleteFunc(kept, func(c string) bool { return !md.has(c) }))
	delete(md.rows, from)
	md.rows[to] = after
}

func (md *model) remove(key string) {
	before := md.rows[key]
	if before == nil {
		return
	}
	md.record(event.Delete, before, nil, nil)
	delete(md.rows, key)
}

// commitTransaction ends the transaction whose changes follow history[from].
func (md *model) commitTransaction(from int) {
	if from == len(md.history) {
		return
	}
	tx := &event.Transaction{CommitLSN: md.wal, EndLSN: md.wal + 5}
	md.wal += 5
	for i := from; i < len(md.history); i++ {
		md.history[i].ev.Transaction = tx
		md.history[i].ev.Ordinal = uint32(i - from)
	}
	md.history[len(md.history)-1].end = true
}

func (md *model) transact(t *rapid.T) {
	md.t = t
	from := len(md.history)
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		switch rapid.IntRange(0, 20).Draw(t, "op") {
		case 0:
			md.record(event.Truncate, nil, nil, nil)
			clear(md.rows)
		case 1, 2, 3, 4, 5:
			md.insert(md.letter(), true)
		case 6, 7, 8:
			md.remove(md.letter())
		case 9, 10, 11, 12, 13:
			md.update(md.letter(), md.letter())
		default:
			k := md.letter()
			md.update(k, k)
		}
	}
	md.commitTransaction(from)
}

// swap exchanges two keys by way of a third.
func (md *model) swap(t *rapid.T) {
	md.t = t
	a, b := md.letter(), md.letter()
	if md.rows[a] == nil || md.rows[b] == nil || a == b {
		t.Skip()
	}
	from := len(md.history)
	md.update(a, "tmp")
	md.update(b, a)
	md.update("tmp", b)
	md.commitTransaction(from)
}

// alter adds or drops a column.
func (md *model) alter(t *rapid.T) {
	md.t = t
	var names []string
	for _, c := range md.schema.Columns {
		names = append(names, c.Name)
	}
	if drop := rapid.SampledFrom([]string{"", "", "n", "big2", "extra1"}).Draw(t, "drop"); drop != "" && md.has(drop) {
		names = slices.DeleteFunc(names, func(n string) bool { return n == drop })
	} else {
		md.columns++
		names = append(names, fmt.Sprintf("extra%d", md.columns))
	}
	md.schema = md.register(names...)
	for k, c := range md.rows {
		md.rows[k] = md.known(c)
	}
}

// --- the stream

// deliver brings the next changes of the history to the mirror, in a batch that may end inside a transaction.
func (md *model) deliver(t *rapid.T) {
	md.t = t
	md.deliverSome(rapid.IntRange(1, 8).Draw(t, "changes"))
}

func (md *model) deliverSome(n int) {
	next := int(md.m.Position()) // offsets are counts of changes here
	n = min(n, len(md.history)-next)
	if n <= 0 {
		return
	}
	b := md.m.Begin()
	defer b.Discard()
	for i := next; i < next+n; i++ {
		change := md.history[i]
		if !md.arrives(i) {
			continue
		}
		ev := change.ev
		if err := b.Apply(&ev); err != nil {
			md.t.Fatal(err)
		}
		md.checkEvent(change, &ev)
	}
	if rapid.IntRange(0, 9).Draw(md.t, "discard") == 0 {
		return
	}
	for i := next; i < next+n; i++ {
		md.journaled[i] = md.arrives(i)
	}
	last := md.history[next+n-1]
	lsn := pglogrepl.LSN(0)
	if last.end {
		lsn = last.ev.Transaction.EndLSN
	}
	md.must(b.Commit(event.Offset(next+n), lsn, last.end))
}

// arrives says whether a change comes to the mirror: what was journaled does so again after a crash.
func (md *model) arrives(i int) bool {
	if is, delivered := md.journaled[i]; delivered {
		return is
	}
	return md.captured && i >= md.published
}

// removeTable ends the capture, between two deliveries.
func (md *model) removeTable(t *rapid.T) {
	md.t = t
	if !md.captured || rapid.IntRange(0, 2).Draw(t, "really") > 0 {
		t.Skip()
	}
	md.dropTable()
	md.captured, md.complete, md.sessions = false, false, nil
}

// dropTable drops the table of a mirror that has caught up with the journal.
func (md *model) dropTable() {
	for _, behind := md.journaled[int(md.m.Position())]; behind; _, behind = md.journaled[int(md.m.Position())] {
		md.deliverSome(1)
	}
	md.must(md.m.DropTable(modelTable))
	md.gone()
}

// gone sees to it that nothing of the table is there.
func (md *model) gone() {
	md.t.Helper()
	if len(md.m.Tables()) > 0 || md.m.Loaded(modelTable) {
		md.t.Fatalf("the mirror knows %v", md.m.Tables())
	}
	it, err := md.m.db.NewIter(&pebble.IterOptions{UpperBound: []byte{byte(spaceMeta)}})
	md.must(err)
	if it.First() {
		md.t.Errorf("left over of a dropped table: %q", it.Key())
	}
	md.must(it.Close())
	for _, s := range []space{spaceRow, spaceTable, spaceUnfilled} {
		it, err := md.m.db.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(s)}, UpperBound: []byte{byte(s) + 1}})
		md.must(err)
		if it.First() {
			md.t.Errorf("left over of a dropped table: %q", it.Key())
		}
		md.must(it.Close())
	}
}

// addTable begins the capture again. The source sends what comes from now on, and the end of the last transaction.
func (md *model) addTable(t *rapid.T) {
	md.t = t
	if md.captured {
		t.Skip()
	}
	md.published = max(int(md.m.Position()), len(md.history)-rapid.IntRange(0, 3).Draw(t, "sent of the last transaction"))
	if from := slices.IndexFunc(md.history, func(c sourceChange) bool { return c.ev.Transaction == md.history[len(md.history)-1].ev.Transaction }); from >= 0 {
		md.published = max(md.published, from)
	}
	md.deliverSome(rapid.IntRange(0, 4).Draw(t, "changes before the capture"))
	md.dropTable()
	md.captured = true
	md.deliverSome(rapid.IntRange(0, 4).Draw(t, "changes before the load"))
	if rapid.Bool().Draw(t, "crash") {
		md.crash(t)
	}
	md.startLoad()
}

// checkEvent: what the event says after Apply is the truth, and all of it when the table is complete.
func (md *model) checkEvent(change sourceChange, ev *event.Event) {
	md.t.Helper()
	if ev.BeforeComplete && !slices.Equal(show(ev.Before), show(values(ev.Schema, change.before))) {
		md.t.Fatalf("before of %c is %q, want %q", ev.Op, show(ev.Before), show(values(ev.Schema, change.before)))
	}
	if md.complete && change.before != nil && !ev.BeforeComplete {
		md.t.Fatalf("before of %c is not complete in a complete table", ev.Op)
	}
	if change.after == nil {
		return
	}
	want := show(values(ev.Schema, change.after))
	for i, v := range show(ev.After) {
		if v != want[i] && (v != unchanged || md.complete) {
			md.t.Fatalf("after of %c is %q, want %q", ev.Op, show(ev.After), want)
		}
	}
}

// --- the load

func (md *model) startLoad() {
	md.ranges = []*modelRange{{letters: "abt"}, {letters: "cd"}, {letters: "ef"}}
	md.points, md.resumed, md.complete, md.sessions = map[pglogrepl.LSN]bool{}, false, false, nil
	md.must(md.m.StartLoad(md.schema, make([]LoadRange, len(md.ranges))))
}

func (md *model) reload(t *rapid.T) {
	md.t = t
	if !md.complete {
		t.Skip()
	}
	if rapid.Bool().Draw(t, "dropped") {
		md.dropTable()
	}
	md.startLoad()
}

// openSession takes a snapshot of the source as it is. Its consistent point may be where the next transaction's
// commit record will be.
func (md *model) openSession(t *rapid.T) {
	md.t = t
	if len(md.sessions) > 3 {
		t.Skip()
	}
	md.newSession()
}

func (md *model) newSession() *session {
	s := &session{schema: md.schema, rows: map[string]content{}}
	md.wal += pglogrepl.LSN(rapid.IntRange(0, 1).Draw(md.t, "other WAL"))
	s.point = md.wal
	md.wal += pglogrepl.LSN(rapid.IntRange(0, 1).Draw(md.t, "WAL after the session"))
	for k, c := range md.rows {
		s.rows[k] = c
	}
	md.sessions = append(md.sessions, s)
	return s
}

// load loads some rows of one range, which it finishes when there are no more.
func (md *model) load(t *rapid.T) {
	md.t = t
	if !md.captured || md.complete || len(md.sessions) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(md.ranges)-1).Draw(t, "range")
	state, _, err := md.m.LoadState(modelTable)
	md.must(err)
	if state.Ranges[i].Done {
		t.Skip()
	}
	md.loadSome(i, rapid.SampledFrom(md.sessions).Draw(t, "session"), rapid.IntRange(1, 3).Draw(t, "rows"))
}

func (md *model) loadSome(i int, s *session, n int) {
	r := md.ranges[i]
	if r.session == nil || s.point > r.session.point { // a newer snapshot begins the range again
		r.session, r.left = s, nil
		for k := range s.rows {
			if slices.Contains([]byte(r.letters), k[0]) {
				r.left = append(r.left, k)
			}
		}
		slices.Sort(r.left)
	}
	md.points[r.session.point] = true
	n = min(n, len(r.left))
	if md.loadKeys(r.session, r.left[:n]); md.crashed != nil {
		md.goOn(md.crashed)
		return
	}
	if r.left = r.left[n:]; len(r.left) == 0 {
		md.must(md.m.FinishRange(modelTable, i, r.session.point, 0))
	}
}

func (md *model) loadKeys(s *session, keys []string) {
	var rows []row.Row
	for _, k := range keys {
		rows = append(rows, values(s.schema, s.rows[k]))
	}
	if rapid.IntRange(0, 2).Draw(md.t, "one by one") == 0 {
		md.must(md.m.Load(modelTable, s.schema, s.point, rows))
		return
	}
	rows = rapid.Permutation(rows).Draw(md.t, "order")
	ingesting := false
	md.m.cfg.beforeIngest = func() {
		if !ingesting { // else another has begun in the middle of the first
			ingesting = true
			md.meanwhile()
			ingesting = false
		}
	}
	md.m.cfg.afterIngest = func() { md.mayCrash("crash after the ingest") }
	defer func() { md.m.cfg.beforeIngest, md.m.cfg.afterIngest = nil, nil }()
	bulk := md.m.Bulk(modelTable, s.schema, s.point)
	defer bulk.Close()
	md.must(bulk.Add(md.t.Context(), rows))
	md.must(bulk.Flush(md.t.Context()))
}

// meanwhile is what may come between the writing of files and their becoming part of the mirror.
func (md *model) meanwhile() {
	for range rapid.IntRange(0, 3).Draw(md.t, "things meanwhile") {
		if md.crashed != nil {
			return // what comes now is not kept
		}
		switch rapid.IntRange(0, 6).Draw(md.t, "meanwhile") {
		case 0:
			md.declare(md.t)
		case 1:
			if len(md.fillings) > 0 {
				md.fillSome(rapid.IntRange(1, 3).Draw(md.t, "rows"))
			}
		case 2:
			if i := rapid.IntRange(0, len(md.ranges)-1).Draw(md.t, "other range"); md.ranges[i].session != nil && len(md.ranges[i].left) > 0 {
				other := md.m.Bulk(modelTable, md.ranges[i].session.schema, md.ranges[i].session.point)
				md.must(other.Add(md.t.Context(), []row.Row{values(md.ranges[i].session.schema, md.ranges[i].session.rows[md.ranges[i].left[0]])}))
				md.must(other.Flush(md.t.Context()))
				other.Close()
			}
		default:
			md.deliverSome(rapid.IntRange(1, 8).Draw(md.t, "changes meanwhile"))
		}
	}
	md.mayCrash("crash before the ingest")
}

// mayCrash keeps what a crash at this moment would leave, for the model to go on from.
func (md *model) mayCrash(label string) {
	if md.crashed == nil && rapid.IntRange(0, 9).Draw(md.t, label) == 0 {
		md.crashed = md.crashClone()
	}
}

// tryFinish completes the load when it can be.
func (md *model) tryFinish(t *rapid.T) {
	md.t = t
	state, _, err := md.m.LoadState(modelTable)
	md.must(err)
	if !md.captured || md.complete || slices.ContainsFunc(state.Ranges, func(r LoadRange) bool { return !r.Done }) {
		t.Skip()
	}
	md.deliverAll()
	md.finish()
}

func (md *model) finish() {
	err := md.m.FinishLoad(md.t.Context(), modelTable)
	var unfilled *UnfilledError
	if errors.As(err, &unfilled) {
		if len(md.points) == 1 && !md.resumed {
			md.t.Fatalf("one snapshot must have all values: %v", err)
		}
		s := md.newSession()
		var keys []string
		for _, k := range unfilled.Keys {
			key := string(row.SplitKey(k)[0])
			if s.rows[key] == nil {
				md.t.Fatalf("row %s is not in the source, but the stream is at its end", key)
			}
			keys = append(keys, key)
		}
		if md.loadKeys(s, keys); md.crashed != nil {
			md.goOn(md.crashed)
			md.deliverAll()
			md.finish()
			return
		}
		md.m.Advance(s.point)
		err = md.m.FinishLoad(md.t.Context(), modelTable)
	}
	md.must(err)
	md.complete = true
	md.check()
}

// --- the rest

func (md *model) declare(t *rapid.T) {
	md.t = t
	md.indexes = nil
	for _, columns := range [][]string{{"fk"}, {"fk", "n"}, {"big1"}, {"extra1"}} {
		if rapid.Bool().Draw(t, columns[0]) {
			md.indexes = append(md.indexes, Index{OID: modelTable, Columns: columns})
		}
	}
	missing, err := md.m.redeclare(md.indexes)
	md.must(err)
	md.fillings = md.m.fillings(missing)
}

// fill goes on with the filling of indexes by some rows.
func (md *model) fill(t *rapid.T) {
	md.t = t
	if len(md.fillings) == 0 {
		t.Skip()
	}
	md.fillSome(rapid.IntRange(1, 3).Draw(t, "rows"))
}

func (md *model) fillSome(n int) {
	f := md.fillings[0]
	done, err := f.step(md.t.Context(), n)
	md.must(err)
	if done {
		md.must(f.finish())
		md.fillings = md.fillings[1:]
	}
}

// ready are the indexes that may be looked into.
func (md *model) ready() (indexes []Index) {
	for _, ix := range md.m.declared.Load().Indexes {
		if ix.Ready {
			indexes = append(indexes, ix.Index)
		}
	}
	return indexes
}

// crash goes on with what a crash of the machine would have left on disk.
func (md *model) crash(t *rapid.T) {
	md.t = t
	if rapid.Bool().Draw(t, "sync") {
		offset, err := md.m.Sync()
		md.must(err)
		defer func() {
			if md.m.Position() < offset {
				t.Fatalf("position %d after a crash, was synced at %d", md.m.Position(), offset)
			}
		}()
	}
	md.goOn(md.crashClone())
}

func (md *model) crashClone() *vfs.MemFS {
	seed := rapid.Uint64().Draw(md.t, "seed")
	md.indexes = md.ready() // that is all that is kept of them
	return md.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(md.t, "kept"), RNG: rand.New(rand.NewPCG(seed, 0))})
}

// goOn goes on with what a crash has left.
func (md *model) goOn(left *vfs.MemFS) {
	md.fs, md.crashed = left, nil
	md.old = append(md.old, md.m)
	md.m = nil
	md.open()
	for _, r := range md.ranges { // a session does not survive; a range begins again
		r.session, r.left = nil, nil
	}
	md.sessions = nil
	md.resumed = true
	if md.fillings = nil; !slices.EqualFunc(md.ready(), md.indexes, Index.equal) {
		md.t.Fatalf("indexes %v are ready after a crash, were %v", md.ready(), md.indexes)
	}
	if !md.captured {
		md.gone()
	}
}

func (md *model) deliverAll() {
	for int(md.m.Position()) < len(md.history) {
		md.deliverSome(len(md.history))
	}
	md.m.Advance(md.wal)
}

// drain finishes everything and compares.
func (md *model) drain() {
	if !md.captured {
		md.addTable(md.t)
	}
	for i := range md.ranges {
		for !md.done(i) {
			if len(md.sessions) == 0 {
				md.newSession()
			}
			md.loadSome(i, md.sessions[len(md.sessions)-1], 1000)
		}
	}
	md.deliverAll()
	if !md.complete {
		md.finish()
	}
	md.fillings = nil
	md.must(md.m.EnsureIndexes(md.t.Context(), []Index{{OID: modelTable, Columns: []string{"fk"}}, {OID: modelTable, Columns: []string{"big1"}}}))
	md.indexes = []Index{{OID: modelTable, Columns: []string{"fk"}}, {OID: modelTable, Columns: []string{"big1"}}}
	md.check()
}

// done says whether a range is.
func (md *model) done(i int) bool {
	state, _, err := md.m.LoadState(modelTable)
	md.must(err)
	return state.Ranges[i].Done
}

// check compares the mirror with the source, byte by byte of the keyspaces, with the stream at its end.
func (md *model) check() {
	md.t.Helper()
	for len(md.fillings) > 0 {
		md.fillSome(2)
	}
	have, entries := map[string]string{}, map[string]bool{}
	it, err := md.m.db.NewIter(&pebble.IterOptions{})
	md.must(err)
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		switch space(it.Key()[0]) {
		case spaceRow:
			rec, err := decodeRecord(it.Value())
			md.must(err)
			from, _ := md.registry.Schema(rec.schema)
			r := newMapping(from, md.schema).convert(nil, rec.row)
			have[string(it.Key()[prefixLen:])] = fmt.Sprintf("%q", show(r))
			for _, ix := range md.m.declared.Load().of(modelTable) {
				at, err := md.m.columnsOf(rec.schema, []*index{ix})
				md.must(err)
				if entry, ok := appendEntry(nil, ix, at[0], rec.row, it.Key()[prefixLen:]); ok {
					entries[string(entry)] = true
				}
			}
		case spaceTombstone, spaceUnfilled:
			md.t.Fatalf("left over in a complete table: %q", it.Key())
		}
	}
	want := map[string]string{}
	for k, c := range md.rows {
		want[string(keyOf(k))] = fmt.Sprintf("%q", show(values(md.schema, c)))
	}
	if !maps.Equal(have, want) {
		md.t.Fatalf("mirror has\n%v\nwant\n%v", have, want)
	}
	for it.SeekGE([]byte{byte(spaceIndex)}); it.Valid() && space(it.Key()[0]) == spaceIndex; it.Next() {
		if id := binary.BigEndian.Uint32(it.Key()[1:]); slices.ContainsFunc(md.m.declared.Load().Indexes, func(ix *index) bool { return ix.ID == id && !ix.Ready && !ix.filling }) {
			continue // a crash left it half filled; it will be dropped
		}
		if !entries[string(it.Key())] {
			md.t.Fatalf("index entry %q has no row", it.Key())
		}
		delete(entries, string(it.Key()))
	}
	if len(entries) > 0 {
		md.t.Fatalf("index entries %v are missing", slices.Collect(maps.Keys(entries)))
	}
	if got := len(md.m.declared.Load().of(modelTable)); got != len(md.indexes) {
		md.t.Fatalf("%d indexes are ready, want %d", got, len(md.indexes))
	}
}
