package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// heals sees to it that everything gets right by itself after a fault that was caused under a running daemon.
func (w *ward) heals(r *faults.Result) {
	w.t.Helper()
	began := time.Now()
	w.right()
	r.Recovered(time.Since(began))
	w.meanwhile()
	w.right()
}

func TestFaultMirrorDeleted(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "mirror-deleted", Area: "Mirror", Fault: "The mirror's folder is deleted.",
		Promise: "The daemon says so and loads all tables again; the journal goes on, and readers keep what there is until the views are built anew.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	w.d.stop()
	w.replace("mirror", "")
	w.d = w.start()
	w.d.ready()
	w.says("run", w.d.log.text(), "mirror-lost")
	w.heals(r)
}

func TestFaultMirrorRestoredFromAnOlderCopy(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "mirror-older-copy", Area: "Mirror", Heavy: true, Fault: "The mirror's folder is restored from an older copy.",
		Promise: "It catches up from the journal, across an accepted gap, too: there its tables are loaded again.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	w.d.stop()
	older, oldest := w.copyOf("mirror"), w.data("mirror")+".oldest"
	if err := os.CopyFS(oldest, os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	w.d = w.start()
	w.d.ready()
	w.meanwhile()
	w.d.reach()
	w.d.stop()
	w.replace("mirror", older)
	w.d = w.start()
	w.d.ready()
	w.heals(r)
	w.d.stop()
	// An older copy from before a gap.
	w.database.Exec(`SELECT pg_drop_replication_slot('`+w.slot+`')`, `UPDATE parcels SET state = 'unseen' WHERE id = 77`, `DELETE FROM parcels WHERE id = 78`)
	w.accept(r, "slot-missing")
	w.d.stop()
	w.replace("mirror", oldest)
	w.d = w.start()
	w.d.ready()
	w.right()
	w.database.Exec(`UPDATE parcels SET state = 'over' WHERE id = 77`)
	w.right()
}

// printedCommand finds, in what was printed, a command that begins with something.
func (w *ward) printedCommand(text, begins string) string {
	w.t.Helper()
	at := strings.Index(text, begins)
	if at < 0 {
		w.t.Fatalf("no command %q is printed:\n%s", begins, text)
	}
	command, _, _ := strings.Cut(text[at:], "\n")
	command, _, _ = strings.Cut(command, "   (")
	return strings.TrimSpace(command)
}

func TestFaultMirrorOfAnotherDeployment(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "mirror-of-another", Area: "Mirror", Heavy: true, Fault: "mirror.dir holds another deployment's mirror.",
		Promise: "The daemon does not start, names both journals, and prints the command; the journal is not touched.",
		Answer:  "point mirror.dir back, or `rm -r` of that folder, as printed"})
	w, other := newWard(t, options{}), newWard(t, options{})
	w.begin()
	w.d.stop()
	other.begin()
	other.d.stop()
	w.replace("mirror", other.copyOf("mirror"))
	command := "rm -r " + w.data("mirror")
	w.refuses("mirror-other", command)
	if exit, _, stderr := w.run("source", "accept-gap"); exit != 2 || !strings.Contains(stderr, "mirror-other") {
		t.Errorf("accept-gap exits with %d: %s", exit, stderr)
	}
	folder := strings.TrimPrefix(w.printedCommand(w.d.log.text(), "rm -r "), "rm -r ")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	w.d = w.start()
	w.d.ready()
	w.heals(r)
}

// raw makes one call to the cluster that may fail.
func (w *ward) raw(method, path string, body any) {
	w.t.Helper()
	w.elasticsearch(method, w.search+path, body, nil)
}

// index is the index that the view's alias points to.
func (w *ward) index() string {
	w.t.Helper()
	var behind map[string]json.RawMessage
	w.elasticsearch(http.MethodGet, w.search+"/_alias/"+w.searchPrefix+"parcels", nil, &behind)
	for name := range behind {
		return name
	}
	w.t.Fatal("the alias points nowhere")
	return ""
}

func TestFaultIndexDeleted(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "index-deleted", Area: "Sinks", Fault: "Somebody deletes the live index.",
		Promise: "The projector notices at its next write, at the latest after ten seconds, and builds the view anew by itself; a bulk never makes an index. Redis is not concerned.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	w.raw(http.MethodDelete, "/"+w.index(), nil)
	w.meanwhile()
	w.heals(r)
	if index := w.index(); !strings.HasSuffix(index, "-g1") && !strings.HasSuffix(index, "-g2") {
		t.Errorf("the alias points to %s", index)
	}
}

func TestFaultIndexReplacedByAForeignOne(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "index-replaced", Area: "Sinks", Heavy: true, Fault: "Somebody deletes the live index and creates one of the alias' name, as a client does that writes to it.",
		Promise: "The projector stops, names the index, and prints the command; nothing is written into it, and nothing of it is deleted by us.",
		Answer:  "`curl -X DELETE` of that index, then `lanternist rebuild VIEW`, as printed"})
	w := newWard(t, options{})
	w.begin()
	alias := w.searchPrefix + "parcels"
	w.raw(http.MethodDelete, "/"+w.index(), nil)
	w.raw(http.MethodPut, "/"+alias, map[string]any{})
	hint := w.stopped("parcels.search", "there is an index named "+alias)
	if !strings.Contains(hint, "curl -X DELETE "+w.search+"/"+alias) {
		t.Errorf("the hint is %q", hint)
	}
	w.raw(http.MethodDelete, "/"+alias, nil)
	w.rebuilds(hint)
	w.heals(r)
}

func TestFaultAliasPointsElsewhere(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "alias-elsewhere", Area: "Sinks", Heavy: true, Fault: "Somebody points the view's alias to an index of their own.",
		Promise: "The projector stops, names the index, and prints the command; the other index is left alone.",
		Answer:  "`curl -X POST …/_aliases` to take the alias away, then `lanternist rebuild VIEW`, as printed"})
	w := newWard(t, options{})
	w.begin()
	alias, theirs := w.searchPrefix+"parcels", w.searchPrefix+"theirs"
	w.raw(http.MethodPut, "/"+theirs, map[string]any{})
	w.raw(http.MethodPost, "/_aliases", map[string]any{"actions": []any{
		map[string]any{"remove": map[string]any{"index": w.index(), "alias": alias}}, map[string]any{"add": map[string]any{"index": theirs, "alias": alias}},
	}})
	hint := w.stopped("parcels.search", theirs)
	m := regexp.MustCompile(`curl -X POST (\S+) -H .*? -d '(.*?)'`).FindStringSubmatch(hint)
	if m == nil {
		t.Fatalf("the hint is %q", hint)
	}
	w.elasticsearch(http.MethodPost, m[1], json.RawMessage(m[2]), nil)
	w.rebuilds(hint)
	w.heals(r)
}

func TestFaultAliasDeleted(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "alias-deleted", Area: "Sinks", Heavy: true, Fault: "Somebody deletes the view's alias; the index stays.",
		Promise: "Within ten seconds readers are sent to the same index again: nothing is built anew.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	index := w.index()
	w.raw(http.MethodDelete, "/"+index+"/_alias/"+w.searchPrefix+"parcels", nil)
	w.heals(r)
	if now := w.index(); now != index {
		t.Errorf("the alias points to %s, not to %s", now, index)
	}
}

// stopped waits until a projector has stopped and says something, and returns its hint.
func (w *ward) stopped(projector, says string) (hint string) {
	w.t.Helper()
	devstack.Eventually(w.t, readyWithin, func() error {
		w.d.alive()
		var s struct {
			Projectors []struct{ Projector, State, Error, Hint string }
		}
		if err := w.get("/v1/status", &s); err != nil {
			return err
		}
		for _, p := range s.Projectors {
			if p.Projector == projector && p.State == "stopped" && strings.Contains(p.Error, says) {
				hint = p.Hint
				return nil
			}
		}
		return fmt.Errorf("%s has not stopped because of %q: %+v", projector, says, s)
	})
	return hint
}

// rebuilds runs the command at the end of a hint.
func (w *ward) rebuilds(hint string) {
	w.t.Helper()
	_, command, ok := strings.Cut(hint, "lanternist ")
	if !ok {
		w.t.Fatalf("the hint %q has no command", hint)
	}
	if exit, stdout, stderr := w.run(strings.Fields(command)...); exit != 0 {
		w.t.Fatalf("lanternist %s exits with %d:\n%s%s", command, exit, stdout, stderr)
	}
}

// redis is a client of the installation's Redis.
func (w *ward) redis() *redis.Client {
	w.t.Helper()
	opts, err := redis.ParseURL(w.cache)
	if err != nil {
		w.t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	w.t.Cleanup(func() { db.Close() })
	return db
}

func TestFaultRedisFlushed(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "redis-flushed", Area: "Sinks", Fault: "Somebody flushes Redis (here: deletes all keys of the prefix).",
		Promise: "It is noticed at the next write or read, at the latest after ten seconds: reads with a token answer 503, not 404, until the view is filled again by itself.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	db := w.redis()
	keys, err := db.Keys(t.Context(), w.cachePrefix+"*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if err := db.Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
	w.heals(r)
}

func TestFaultRedisFailedOverToAnOlderCopy(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "redis-older-copy", Area: "Sinks", Heavy: true, Fault: "Redis fails over to a copy that lacks the last writes.",
		Promise: "It is noticed by the count of writes; the projector goes on from the checkpoint that the copy has, and writes what is missing again.",
		Answer:  "nothing: it heals by itself"})
	w := newWard(t, options{})
	w.begin()
	db := w.redis()
	keys, err := db.Keys(t.Context(), w.cachePrefix+"*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	copied := map[string]string{}
	for _, key := range keys {
		if copied[key], err = db.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	w.database.Exec(`UPDATE parcels SET state = 'newer' WHERE id BETWEEN 90 AND 110`, `DELETE FROM parcels WHERE id = 111`)
	w.d.reach()
	_, err = db.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		now, err := db.Keys(t.Context(), w.cachePrefix+"*").Result()
		if err != nil {
			return err
		}
		p.Del(t.Context(), now...)
		for key, value := range copied {
			p.Restore(t.Context(), key, 0, value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.heals(r)
}

func TestFaultTwoDeploymentsUnderOnePrefix(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "two-deployments-one-prefix", Area: "Sinks", Heavy: true,
		Fault:   "A second deployment, with a database of its own, is started with the prefixes of the first.",
		Promise: "The second's projectors stop before they write anything, and name the first; the first is not disturbed. When the sinks are taken over by the command, it is the first that stops.",
		Answer:  "give one of them another prefix, or, when the other is gone: `lanternist rebuild VIEW`"})
	first, second := newWard(t, options{}), newWard(t, options{})
	first.begin()
	text, err := os.ReadFile(second.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(strings.ReplaceAll(string(text), second.searchPrefix, first.searchPrefix), second.cachePrefix, first.cachePrefix)
	second.write("lanternist.yaml", []byte(changed))
	second.searchPrefix, second.cachePrefix = first.searchPrefix, first.cachePrefix
	second.database.Exec(`UPDATE parcels SET state = 'second'`)
	second.d = second.start()
	for _, projector := range []string{"parcels.search", "parcels.cache"} {
		hint := second.stopped(projector, "belongs to deployment")
		second.says("the hint", hint, "prefix", "lanternist rebuild parcels")
	}
	first.meanwhile()
	first.right()
	second.rebuilds("lanternist rebuild parcels")
	second.right()
	for _, projector := range []string{"parcels.search", "parcels.cache"} {
		first.stopped(projector, "belongs to deployment")
	}
	began := time.Now()
	second.meanwhile()
	second.right()
	r.Recovered(time.Since(began))
}
