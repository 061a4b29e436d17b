package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

func TestStopAndRestartGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	built := in.status()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	d.stop()
	inOrder(t, d.log.text(), "msg=stopping", "msg=stopped")

	again := in.start()
	again.ready()
	tr.stop()
	again.reach()
	in.compare(shop.Truth)
	now := in.status()
	for projector, generation := range built.generations() {
		if now.generations()[projector] != generation || generation == 0 {
			t.Errorf("%s has generation %d after the restart, before %d", projector, now.generations()[projector], generation)
		}
	}
	if strings.Contains(again.log.text(), `msg="load started"`) {
		t.Error("the restart loaded tables again")
	}
	for _, p := range now.Projectors {
		if p.Documents > 5000 {
			t.Errorf("%s wrote %d documents after the restart: it was built anew", p.Projector, p.Documents)
		}
	}
	again.stop()
}

// inOrder sees to it that a log has the texts, one after the other.
func inOrder(t *testing.T, log string, texts ...string) {
	t.Helper()
	rest := log
	for _, text := range texts {
		at := strings.Index(rest, text)
		if at < 0 {
			t.Errorf("%q is missing, or not in its place of %q, in:\n%s", text, texts, tail(log, 30))
			return
		}
		rest = rest[at+len(text):]
	}
}

// A view's file changes. While the new generation waits to be built, and while it is, readers' tokens are good on the old one.
func TestChangedViewIsBuiltAnewAndPromoted(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	before := in.status().generations()
	d.stop()

	definition := strings.Replace(string(shop.Definition("category_page")), "  product_count: {count: products}",
		"  product_count: {count: products}\n  dearest: {max: products.price}", 1)
	in.write("views/category_page.yaml", []byte(definition))
	truth := func(view string) string {
		if view != "category_page" {
			return shop.Truth(view)
		}
		return `SELECT t.id, t.doc || jsonb_build_object('dearest', (SELECT max(price) FROM products p WHERE p.category_id = t.id::int))
			FROM (` + shop.Truth(view) + `) AS t (id, doc)`
	}
	in.autoRebuild(false)
	d = in.start()
	d.ready()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	d.reach()
	tr.stop()
	d.reach()
	in.compare(shop.Truth)
	if now := in.status().generations(); !maps.Equal(now, before) {
		t.Errorf("generations %v, want %v", now, before)
	}
	if _, stdout, stderr := in.run("status"); !strings.Contains(stdout, "category_page.cache: pending: definition changed: rebuild category_page builds it") {
		t.Errorf("status says\n%s%s", stdout, stderr)
	}
	d.stop()

	in.autoRebuild(true)
	d = in.start()
	tr = in.startTraffic(randomSource(t).Uint64(), busyRate)
	devstack.Eventually(t, readyWithin, func() error { return in.get("/healthz", nil) })
	reading, stop := make(chan error, 1), make(chan struct{})
	go func() { reading <- in.readWithTokens("category_page", stop) }()
	devstack.Eventually(t, readyWithin, func() error {
		d.alive()
		for projector, generation := range in.status().generations() {
			want := before[projector]
			if strings.HasPrefix(projector, "category_page.") {
				want++
			}
			if generation != want {
				return fmt.Errorf("%s has generation %d, want %d", projector, generation, want)
			}
		}
		return in.get("/readyz", nil)
	})
	close(stop)
	if err := <-reading; err != nil {
		t.Error(err)
	}
	tr.stop()
	d.reach()
	in.compare(truth)
	d.nothingParked()

	if code, stdout, stderr := in.run("rebuild", "--rollback", "category_page"); code != 0 {
		t.Fatalf("going back to the old definition exited with %d:\n%s%s", code, stdout, stderr)
	}
	d.reach()
	in.compare(shop.Truth)
	d.stop()
}

// autoRebuild sets views.auto_rebuild.
func (in *installation) autoRebuild(on bool) {
	in.t.Helper()
	text, err := os.ReadFile(in.file)
	if err != nil {
		in.t.Fatal(err)
	}
	kept, _, found := strings.Cut(string(text), "views: ")
	if !found {
		in.t.Fatalf("no views in %s", text)
	}
	in.write("lanternist.yaml", fmt.Appendf(nil, "%sviews: {files: [views/*.yaml], auto_rebuild: %t}\n", kept, on))
}

// readWithTokens reads documents of a view in both sinks, each time with a token of now, until stop is closed. Every answer must
// be one, and reflect the token.
func (in *installation) readWithTokens(view string, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n == 0 {
				return errors.New("nothing was read")
			}
			return nil
		default:
		}
		token := in.position()
		for _, path := range []string{"/v1/views/" + view + "/1", "/v1/views/" + view + "/search"} {
			query := url.Values{"after": {token}, "wait": {"20s"}}
			if strings.HasSuffix(path, "search") {
				query.Set("filter", "id:1")
			}
			a, err := in.ask(http.MethodGet, path, query)
			if err != nil || a.status != http.StatusOK {
				return fmt.Errorf("%s after %s: status %d %s %w", path, token, a.status, a.body, err)
			}
			if reached := a.lsn(in.t); reached < parseLSN(in.t, token) {
				return fmt.Errorf("%s answers %s for %s", path, reached, token)
			}
			if strings.Contains(path, "search") && !strings.Contains(string(a.body), `"total":1`) {
				return fmt.Errorf("%s does not find the document: %s", path, a.body)
			}
		}
	}
}

func TestRebuildUnderTraffic(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	before := in.status().generations()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	// Readers never see a hole while the generations change.
	reading := make(chan error, 1)
	stop := make(chan struct{})
	go func() { reading <- d.readThroughout(stop) }()

	code, stdout, stderr := in.run("rebuild", "order_summary")
	if code != 0 {
		t.Fatalf("rebuild exited with %d:\n%s%s", code, stdout, stderr)
	}
	close(stop)
	if err := <-reading; err != nil {
		t.Error(err)
	}
	for projector, generation := range in.status().generations() {
		want := before[projector]
		if strings.HasPrefix(projector, "order_summary.") {
			want++
		}
		if generation != want {
			t.Errorf("%s has generation %d after the rebuild, want %d", projector, generation, want)
		}
	}
	tr.stop()
	d.reach()
	in.compare(shop.Truth)
	d.nothingParked()
	d.stop()
}

// readThroughout reads category pages, which nothing deletes, from both sinks until stop is closed.
func (d *daemon) readThroughout(stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n == 0 {
				return fmt.Errorf("nothing was read")
			}
			return nil
		default:
		}
		a, err := d.in.ask(http.MethodGet, "/v1/views/order_summary/search?size=1", nil)
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("search while rebuilding: status %d %s %w", a.status, a.body, err)
		}
		var found struct{ Total int }
		if err := json.Unmarshal(a.body, &found); err != nil || found.Total == 0 {
			return fmt.Errorf("search while rebuilding finds nothing: %s %w", a.body, err)
		}
		a, err = d.in.ask(http.MethodGet, "/v1/views/order_summary?customer_id=7", nil)
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("lookup while rebuilding: status %d %s %w", a.status, a.body, err)
		}
	}
}

func TestFaultSecondSignal(t *testing.T) {
	t.Parallel()
	faults.Cause(t, faults.Fault{
		ID: "second-signal", Area: "Process", Fault: "Somebody presses Ctrl-C twice",
		Promise: "The second signal ends the process at once; what that cuts off is what a crash would.",
		Answer:  "nothing: the next start goes on",
	})
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	d.signalTwice()
	// The first may have been enough: what counts is that it ended.
	if code := d.exit(10 * time.Second); code != 0 && code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}
