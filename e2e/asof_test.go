package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/faults"
)

// keptCopy is a SQL copy of the source at one moment, in a schema of its own.
type keptCopy struct {
	schema string
	lsn    string    // what committed before it is in the copy
	at     time.Time // by the source's clock, what committed at or before it; zero when that is not known
}

// keepQuiet copies the shop's tables while no transaction has changed any of them and not ended: position and time are exact.
func (in *installation) keepQuiet(schema string) keptCopy {
	in.t.Helper()
	m := keptCopy{schema: schema}
	ctx := in.t.Context()
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	devstack.Eventually(in.t, reachWithin, func() error { // the traffic may win a deadlock
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(shop.Tables(), ", ")+" IN SHARE MODE"); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()").Scan(&m.lsn, &m.at); err != nil {
				return err
			}
			return copyShop(ctx, tx, schema)
		})
	})
	return m
}

// keepBusy copies them under traffic, as of the consistent point of a slot.
func (in *installation) keepBusy(schema string) keptCopy {
	in.t.Helper()
	ctx := in.t.Context()
	u, err := url.Parse(in.database.URL())
	if err != nil {
		in.t.Fatal(err)
	}
	query := u.Query()
	query.Set("replication", "database")
	u.RawQuery = query.Encode()
	exporter, err := pgconn.Connect(ctx, u.String())
	if err != nil {
		in.t.Fatal(err)
	}
	defer exporter.Close(ctx)
	rows, err := exporter.Exec(ctx, fmt.Sprintf(`CREATE_REPLICATION_SLOT %q TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT`, in.slot+"_"+schema)).ReadAll()
	if err != nil {
		in.t.Fatal(err)
	}
	row := rows[0].Rows[0]
	m := keptCopy{schema: schema, lsn: string(row[1])}
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+string(row[2])+"'"); err != nil {
			return err
		}
		return copyShop(ctx, tx, schema)
	})
	if err != nil {
		in.t.Fatal(err)
	}
	return m
}

func copyShop(ctx context.Context, tx pgx.Tx, schema string) error {
	sql := "CREATE SCHEMA " + schema + ";"
	for _, table := range shop.Tables() {
		_, name, _ := strings.Cut(table, ".")
		sql += fmt.Sprintf("CREATE TABLE %s.%s AS TABLE %s;", schema, name, table)
	}
	_, err := tx.Exec(ctx, sql)
	return err
}

// asOf makes a view as it was. It must succeed.
func (in *installation) asOf(view, at, name string) {
	in.t.Helper()
	if code, stdout, stderr := in.run("rebuild", view, "--as-of", at, "--into", name); code != 0 || !strings.Contains(stdout, name) {
		in.t.Fatalf("%s as of %s exited with %d:\n%s%s", view, at, code, stdout, stderr)
	}
}

// equals compares a view as of a moment with its truth on the copy that was kept: in both sinks, and as the API answers. It returns how
// many documents there are.
func (in *installation) equals(name, truth string, m keptCopy) int {
	in.t.Helper()
	ctx := in.t.Context()
	read, ids := documents{}, in.searchDocuments(name)
	for id := range ids {
		a, err := in.ask(http.MethodGet, "/v1/views/"+name+"/"+url.PathEscape(id), nil)
		if err != nil {
			in.t.Fatal(err)
		}
		if a.status == http.StatusOK {
			read[id] = a.body
		}
		if a.header.Get("Lanternist-As-Of") == "" {
			in.t.Fatalf("%s/%s does not say what it is as of", name, id)
		}
	}
	found := documents{}
	for cursor := ""; ; {
		var page struct {
			Documents []struct {
				ID       string
				Document json.RawMessage
			}
			Cursor string
		}
		query := url.Values{"size": {"200"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		if err := in.get("/v1/views/"+name+"/search?"+query.Encode(), &page); err != nil {
			in.t.Fatal(err)
		}
		for _, d := range page.Documents {
			found[d.ID] = []byte(d.Document)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	sinks := map[string]map[string]shop.Documents{name: {
		"Elasticsearch": ids, "Redis": in.cacheDocuments(name), "API": read, "API search": found,
	}}
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	var result shop.Comparison
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+m.schema+", public"); err != nil {
			return err
		}
		result, err = shop.CompareWith(ctx, tx, func(string) string { return truth }, sinks)
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
	if !result.Equal() || result.Compared == 0 {
		in.t.Errorf("%s: %d documents compared with %s: %d different, %d missing, %d extra", name, result.Compared, m.schema, result.Different, result.Missing, result.Extra)
		for _, d := range result.Differences {
			in.t.Error(d)
		}
	}
	return result.Compared / 4
}

// only leaves these views.
func (in *installation) only(views ...string) {
	in.t.Helper()
	for _, view := range in.views {
		if !slices.Contains(views, view) {
			if err := os.Remove(filepath.Join(in.dir, "views", view+".yaml")); err != nil {
				in.t.Fatal(err)
			}
		}
	}
	in.views = views
}

// checkpointed waits until the archive has a copy of the mirror.
func (in *installation) checkpointed() {
	in.t.Helper()
	devstack.Eventually(in.t, readyWithin, func() error {
		var s struct{ Checkpoints struct{ Last, Error any } }
		if err := in.get("/v1/status", &s); err != nil {
			return err
		}
		if s.Checkpoints.Last == nil {
			return fmt.Errorf("no checkpoint: %v", s.Checkpoints.Error)
		}
		return nil
	})
}

func (in *installation) checkpoint() {
	in.t.Helper()
	if code, stdout, stderr := in.run("mirror", "checkpoint"); code != 0 {
		in.t.Fatalf("checkpoint exited with %d:\n%s%s", code, stdout, stderr)
	}
}

// asofChanges is how many transactions there are between two copies.
const asofChanges = 100

// more waits until so many more transactions have committed.
func (tr *traffic) more(n int64) {
	tr.in.t.Helper()
	until := tr.Counts().Committed + n
	devstack.Eventually(tr.in.t, reachWithin, func() error {
		if now := tr.Counts().Committed; now < until {
			return fmt.Errorf("%d of %d transactions have committed", now, until)
		}
		return nil
	})
}

const withArchive = "archive: {url: file://data/archive, file_size: 1MiB}\n"

// TestAsOf keeps SQL copies of the shop at several moments, under traffic, and has views made as of these moments when nearly nothing
// of then is left: all documents are those of the copies.
func TestAsOf(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{more: withArchive, journal: "{dir: data/journal, retention: {size: 1MiB}}"}, small)
	in.only("order_summary", "customer_profile")
	d := in.start()
	d.ready()
	in.checkpointed()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	tr.more(asofChanges)
	first := in.keepQuiet("first")
	tr.more(asofChanges)
	second := in.keepBusy("second")
	in.checkpoint()
	tr.more(asofChanges)
	third := in.keepQuiet("third")
	tr.more(asofChanges)
	tr.stop()

	in.database.Exec(`DELETE FROM order_items WHERE order_id % 2 = 0; DELETE FROM shipments; UPDATE orders SET status = 'draft' WHERE id % 3 = 0;
		UPDATE customers SET name = 'forgotten'; TRUNCATE payments; ALTER TABLE orders ADD COLUMN gift text DEFAULT 'none'; UPDATE orders SET gift = 'yes'`)
	d.reachIn("/v1/views/order_summary/none", in.position())

	type made struct {
		name, view, at string
		copy           keptCopy
	}
	kept := []made{
		{"orders_first", "order_summary", first.lsn, first},
		{"orders_second", "order_summary", second.lsn, second},
		{"customers_third", "customer_profile", third.at.Format(time.RFC3339Nano), third},
	}
	if os.Getenv("LANTERNIST_E2E_ASOF") != "" {
		for _, view := range in.views {
			for i, m := range []keptCopy{first, second, third} {
				kept = append(kept, made{fmt.Sprintf("%s_%d", view, i), view, m.lsn, m})
				if !m.at.IsZero() {
					kept = append(kept, made{fmt.Sprintf("%s_%d_time", view, i), view, m.at.Format(time.RFC3339Nano), m})
				}
			}
		}
	}
	compared := 0
	for _, k := range kept {
		in.asOf(k.view, k.at, k.name)
		compared += in.equals(k.name, shop.Truth(k.view), k.copy)
	}
	in.frozen("orders_first", first)
	d.refusals()
	last := in.offsetAt(third.lsn)
	in.grow(1024) // twice that in the journal, which keeps a MiB of what is archived, and durable in the mirror
	d.reachIn("/v1/views/order_summary/none", in.position())
	var archived struct{}
	in.journalCommand(0, &archived, "archive")
	d.stop()

	// They stay, and the view that they were made of may become another.
	in.write("views/order_summary.yaml", []byte(strings.Replace(string(shop.Definition("order_summary")), "fields:\n", "fields:\n  gift:\n", 1)))
	d = in.start()
	d.ready()
	compared += in.equals("orders_second", shop.Truth("order_summary"), second)
	devstack.Eventually(t, readyWithin, func() error { // the events of all these moments leave the journal
		if s := in.journal(); uint64(s.Journal.First) <= last {
			in.grow(64)
			return fmt.Errorf("event %d is still in the journal: %+v", last, s)
		}
		return nil
	})
	in.asOf("order_summary", first.lsn, "orders_gift")
	compared += in.equals("orders_gift", strings.Replace(shop.Truth("order_summary"), "jsonb_build_object(", "jsonb_build_object('gift', 'none',", 1), first)
	if code, _, stderr := in.run("rebuild", "--drop", "orders_gift"); code != 0 {
		t.Errorf("drop exited with %d: %s", code, stderr)
	}
	in.gone("orders_gift")
	d.damage(third)
	d.stop()

	// A configured view of a name that is taken is refused, and what helps is said and helps.
	in.write("views/taken.yaml", []byte(strings.Replace(string(shop.Definition("product_page")), "view: product_page", "view: orders_first", 1)))
	if code, _, stderr := in.run("run"); code != 2 || !strings.Contains(stderr, "rebuild --drop orders_first") {
		t.Errorf("with a configured view of a name that is taken: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := in.run("rebuild", "--drop", "orders_first"); code != 0 {
		t.Errorf("drop without a daemon exited with %d: %s", code, stderr)
	}
	if err := os.Remove(filepath.Join(in.dir, "views/taken.yaml")); err != nil {
		t.Fatal(err)
	}
	// Without a daemon the command does it by itself.
	in.asOf("order_summary", second.lsn, "orders_alone")
	d = in.start()
	d.ready()
	in.gone("orders_first")
	compared += in.equals("orders_alone", strings.Replace(shop.Truth("order_summary"), "jsonb_build_object(", "jsonb_build_object('gift', 'none',", 1), second)
	t.Logf("%d documents compared with copies", compared)
	d.nothingParked()
	d.stop()
}

// frozen wants a view as of a moment to say what it is, and to refuse at once what it cannot become.
func (in *installation) frozen(name string, m keptCopy) {
	t := in.t
	t.Helper()
	now := in.position()
	if a, err := in.ask(http.MethodGet, "/v1/views/"+name+"/1", url.Values{"after": {now}, "wait": {"20s"}}); err != nil || a.status != http.StatusConflict ||
		!strings.Contains(string(a.body), "order_summary") {
		t.Errorf("a token that is newer: %d %s %v", a.status, a.body, err)
	}
	for _, path := range []string{"/v1/views/" + name + "/search", "/v1/views/" + name + "/search?q=nothing"} {
		if a, err := in.ask(http.MethodGet, path, nil); err != nil || a.status != http.StatusOK || a.header.Get("Lanternist-As-Of") != m.lsn {
			t.Errorf("%s: %d %v %v", path, a.status, a.header, err)
		}
	}
	if a, err := in.ask(http.MethodGet, "/v1/views/"+name+"/1", url.Values{"after": {m.lsn}}); err != nil || a.status != http.StatusOK && a.status != http.StatusNotFound {
		t.Errorf("a token that it reflects: %d %s %v", a.status, a.body, err)
	}
	for _, path := range []string{"views/" + name + "/rebuild", "views/" + name + "/rollback", "views/" + name + "/verify", "views/" + name + "/asof?at=0/1&into=x",
		"projectors/" + name + ".cache/replay?from=0"} {
		if a, err := in.ask(http.MethodPost, "/v1/"+path, nil); err != nil || a.status != http.StatusConflict && a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s %v", path, a.status, a.body, err)
		}
	}
	var s struct {
		Ready  bool
		Frozen []struct{ Name, View, At, LSN string }
	}
	if err := in.get("/v1/status", &s); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Frozen, func(f struct{ Name, View, At, LSN string }) bool { return f.Name == name })
	if !s.Ready || i < 0 || s.Frozen[i].View != "order_summary" || s.Frozen[i].LSN != m.lsn {
		t.Errorf("status: %+v", s)
	}
	if code, stdout, _ := in.run("status"); code != 0 || !strings.Contains(stdout, name) {
		t.Errorf("status does not list %s:\n%s", name, stdout)
	}
}

// gone wants nothing of a view to be there.
func (in *installation) gone(name string) {
	in.t.Helper()
	if a, err := in.ask(http.MethodGet, "/v1/views/"+name+"/1", nil); err != nil || a.status != http.StatusNotFound {
		in.t.Errorf("%s is there: %d %s %v", name, a.status, a.body, err)
	}
	var indices map[string]any
	in.elasticsearch(http.MethodGet, in.search+"/"+in.searchPrefix+name+"-g*?expand_wildcards=all", nil, &indices)
	if len(indices) > 0 {
		in.t.Errorf("%s is in Elasticsearch: %v", name, indices)
	}
	if keys := in.redisKeys(in.cachePrefix + "{" + name + "}:"); len(keys) > 0 {
		in.t.Errorf("%s is in Redis: %q", name, keys)
	}
}

// redisKeys lists the keys that begin with a text.
func (in *installation) redisKeys(begin string) (all []string) {
	in.t.Helper()
	opts, err := redis.ParseURL(in.cache)
	if err != nil {
		in.t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	defer db.Close()
	keys := db.Scan(in.t.Context(), 0, begin+"*", 5000).Iterator()
	for keys.Next(in.t.Context()) {
		all = append(all, keys.Val())
	}
	if err := keys.Err(); err != nil {
		in.t.Fatal(err)
	}
	return all
}

// refusals asks for what cannot be had.
func (d *daemon) refusals() {
	in, t := d.in, d.in.t
	t.Helper()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"order_summary", "--as-of", "2020-01-01T00:00:00Z", "--into", "old"}, 1, "the oldest moment that can be had: lanternist rebuild order_summary --as-of 20"},
		{[]string{"order_summary", "--as-of", "0/100", "--into", "old"}, 1, "the oldest moment that can be had: lanternist rebuild order_summary --as-of "},
		{[]string{"order_summary", "--as-of", "2999-01-01T00:00:00Z", "--into", "new"}, 2, "has not been reached"},
		{[]string{"order_summary", "--as-of", "last tuesday", "--into", "new"}, 2, "neither a time"},
		{[]string{"order_summary", "--as-of", in.position(), "--into", "orders_first"}, 2, "there is a view orders_first already"},
		{[]string{"order_summary", "--as-of", in.position(), "--into", "customer_profile"}, 2, "there is a view customer_profile already"},
		{[]string{"order_summary", "--as-of", in.position(), "--into", "New"}, 2, "not a name"},
		{[]string{"order_summary", "--as-of", in.position()}, 2, "--into"},
		{[]string{"nonesuch", "--as-of", in.position(), "--into", "x"}, 2, "there is no view"},
		{[]string{"--drop", "nonesuch"}, 2, "orders_first"},
		{[]string{"--drop", "customer_profile"}, 2, "follows the source"},
	} {
		if code, _, stderr := in.run(append([]string{"rebuild"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("rebuild %q exited with %d, want %d and %q:\n%s", c.args, code, c.code, c.want, stderr)
		}
	}
}

// damage flips a byte of what is stored: an older checkpoint helps while there is one, and what is damaged is named.
func (d *daemon) damage(m keptCopy) {
	in, t := d.in, d.in.t
	t.Helper()
	first, newest := in.manifests()
	mended := in.flip(newest, func(sum string) bool {
		return !slices.ContainsFunc(first.Files, func(f storedFile) bool { return f.SHA256 == sum })
	})
	in.asOf("order_summary", m.lsn, "damaged")
	if !d.log.find(readyWithin, "an older one is tried") {
		t.Error("the damage was not told")
	}
	if code, _, stderr := in.run("rebuild", "--drop", "damaged"); code != 0 {
		t.Errorf("drop exited with %d: %s", code, stderr)
	}
	mended()
	mended = in.flip(first, func(sum string) bool {
		return slices.ContainsFunc(newest.Files, func(f storedFile) bool { return f.SHA256 == sum })
	})
	code, _, stderr := in.run("rebuild", "order_summary", "--as-of", m.lsn, "--into", "damaged")
	if code != 1 || strings.Count(stderr, "is damaged: file ") != 2 || !strings.Contains(stderr, "SHA-256") {
		t.Errorf("from damaged checkpoints: exit code %d: %s", code, stderr)
	}
	mended()
	in.gone("damaged")
}

type storedFile struct {
	Path, SHA256 string
	Size         int64
}

type storedCheckpoint struct{ Files []storedFile }

// manifests are those of the first and the last checkpoint in the archive.
func (in *installation) manifests() (first, last storedCheckpoint) {
	in.t.Helper()
	names, err := filepath.Glob(filepath.Join(in.dir, "data/archive/mirror/*/checkpoints/*.json"))
	if err != nil || len(names) < 2 {
		in.t.Fatalf("%d checkpoints are stored: %v", len(names), err)
	}
	for name, m := range map[string]*storedCheckpoint{names[0]: &first, names[len(names)-1]: &last} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, m)
		}
		if err != nil {
			in.t.Fatal(err)
		}
	}
	return first, last
}

// flip changes one byte of the largest of the files that are chosen, until what is returned is called.
func (in *installation) flip(c storedCheckpoint, chosen func(sum string) bool) (mend func()) {
	in.t.Helper()
	var largest storedFile
	for _, f := range c.Files {
		if chosen(f.SHA256) && f.Size > largest.Size {
			largest = f
		}
	}
	names, err := filepath.Glob(filepath.Join(in.dir, "data/archive/mirror/*/objects/*", largest.SHA256))
	if err != nil || len(names) != 1 {
		in.t.Fatalf("%d objects %q: %v", len(names), largest.SHA256, err)
	}
	turn := func() {
		text, err := os.ReadFile(names[0])
		if err == nil {
			text[len(text)/2] ^= 1
			err = os.WriteFile(names[0], text, 0o600)
		}
		if err != nil {
			in.t.Fatal(err)
		}
	}
	turn()
	return turn
}

// TestFaultKilledWhileMakingThePast kills the daemon at places of making and of removing a view as of a moment, and of storing a copy of the
// mirror: the next start shows no half of it, leaves nothing behind, and can do it again.
func TestFaultKilledWhileMakingThePast(t *testing.T) {
	t.Parallel()
	faults.Cause(t, faults.Fault{
		ID: "asof-killed", Area: "Archive", Fault: "The daemon is killed at steps of making and of removing a view as of a moment, and of storing a copy of the mirror",
		Promise: "The next start shows no half of it, leaves nothing behind, and can do it again.",
		Answer:  "`lanternist rebuild VIEW --as-of TIME --into NAME` again",
	})
	in := installShop(t, options{more: withArchive}, shop.Size{Customers: 30, Products: 10, Orders: 50})
	in.only("order_summary")
	path, err := crashingBinary()
	if err != nil {
		t.Fatal(err)
	}
	d := in.startBinary(path)
	d.ready()
	in.checkpointed()
	m := in.keepQuiet("kept")
	in.database.Exec("DELETE FROM order_items; UPDATE orders SET status = 'draft'")
	d.kill()
	make := func() {
		a, err := in.ask(http.MethodPost, "/v1/views/order_summary/asof", url.Values{"at": {m.lsn}, "into": {"past"}})
		if err == nil && a.status != http.StatusAccepted { // there may be no answer
			t.Fatalf("status %d: %s", a.status, a.body)
		}
	}
	drop := func() { _, _ = in.ask(http.MethodDelete, "/v1/views/past/asof", nil) } // as above
	// The daemon that is started after a kill has the next place in it.
	places := []string{
		"asof/recorded", "asof/copied", "asof/restored", "past.search/fill/created", "past.cache/fill/created", "past.search/fill/saved", "past.cache/fill/saved",
		"search/promote/refreshed", "asof/search/promoted", "asof/cache/promoted", "asof/written", "asof/ready", "asof/dropping", "asof/erased", "checkpoint/objects",
	}
	if os.Getenv("LANTERNIST_E2E_ASOF") == "" {
		places = []string{"asof/copied", "past.cache/fill/created", "asof/search/promoted", "asof/ready", "asof/dropping", "checkpoint/objects"}
	}
	for i, place := range places {
		armed := faultpoint.Variable + "=" + place
		if place == "asof/erased" { // what removes what the last kill left comes by it, too
			armed = faultpoint.Variable + "="
		}
		d = in.startBinary(path, armed)
		d.ready()
		switch {
		case i == 0, place == "asof/dropping": // nothing was cut off
		default:
			if !d.log.find(readyWithin, "half-made view removed") {
				t.Errorf("nothing was removed after a kill at %s", places[i-1])
			}
			in.gone("past")
		}
		if place == "asof/erased" {
			d.kill()
			d = in.startBinary(path, faultpoint.Variable+"="+place)
			d.ready()
		}
		switch place {
		case "asof/dropping":
			in.equals("past", shop.Truth("order_summary"), m)
			drop()
		case "asof/erased":
			in.asOf("order_summary", m.lsn, "past")
			drop()
		case "checkpoint/objects":
			_, _ = in.ask(http.MethodPost, "/v1/mirror/checkpoints", nil) // as above
		default:
			make()
		}
		if code := d.exit(readyWithin); code != -1 {
			t.Fatalf("the daemon ended with %d at %s, it was to be killed", code, place)
		}
		if t.Failed() {
			t.Fatalf("at %s", place)
		}
	}
	d = in.startBinary(path)
	d.ready()
	in.checkpoint()
	in.asOf("order_summary", m.lsn, "past")
	in.equals("past", shop.Truth("order_summary"), m)
	d.stop()
}
