package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/projectors"
)

// crashingBinary is a daemon that can be told where to end, and which safeguards to do without. The first call builds it.
var crashingBinary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(binaryDir, "lanternist-faultpoint")
	args := append([]string{"build", "-tags", "faultpoint,sabotage", "-o", file}, buildFlags...)
	if out, err := exec.Command("go", append(args, "github.com/lanternist/lanternist/cmd/lanternist")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary with fault points: %w\n%s", err, out)
	}
	return file, nil
})

// parted are the steps that have their effect in parts, and at how many parts of each the daemon is killed.
var parted = map[projectors.Step]int{
	projectors.StepFilling:         2, // pieces
	projectors.StepAdoptingLetters: 2, // letters of the generation that was promoted, and of the one that was live
	projectors.StepRetiring:        1, // between the documents and the letters
}

// moments are the places of a change at which the daemon is killed: before the first step, within those that have parts,
// and after each, which is before the next one.
func moments(kind projectors.Kind, sink string) (all []string) {
	for i, step := range kind.Steps() {
		place := "part." + sink + "/" + string(kind) + "/" + string(step)
		if i == 0 {
			all = append(all, place)
		}
		for n := range parted[step] {
			switch {
			case sink == "cache" && step == projectors.StepAdoptingLetters: // Redis refuses nothing: there are no letters
			case kind == projectors.KindRollback && step == projectors.StepRetiring: // there is nothing to retire
			default:
				all = append(all, fmt.Sprintf("%s/within#%d", place, n+1))
			}
		}
		all = append(all, place+"/done")
	}
	switch {
	case sink == "search":
		all = append(all, "search/promote/refreshed")
	case kind == projectors.KindRebuild:
		all = append(all, "cache/retire/marked", "cache/retire/emptied")
	}
	return all
}

const (
	partRows   = 2500 // more than two pieces
	poisonedID = "7"  // Elasticsearch refuses the document
	partTruth  = `SELECT p.id::text, jsonb_build_object('id', p.id, 'name', p.name, 'qty', p.qty, 'maker',
		CASE WHEN m.id IS NULL THEN NULL ELSE jsonb_build_object('name', m.name) END)
		FROM parts p LEFT JOIN makers m ON m.id = p.maker_id`
	partView = `view: part
from: public.parts
fields:
  id:
  name:
  qty:
  maker: {one: public.makers, on: {id: maker_id}, fields: {name: }}
`
)

// inBothSinks says whether the daemon is killed at each place in each sink, and not in one of them.
var inBothSinks = os.Getenv("LANTERNIST_E2E_KILLS") == "all"

// TestFaultKilledAtEveryStep kills the daemon at each step of a rebuild and of a rollback, in one of the sinks, or in each of them with
// LANTERNIST_E2E_KILLS=all. Each time, the next start
// must find or make one complete live generation, and leave nothing of what was half done.
func TestFaultKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	sections := map[string]string{"search": "search: {mappings: {qty: {type: integer}}}\n", "cache": "cache: {}\n"}
	for sink, section := range sections {
		t.Run(sink, func(t *testing.T) {
			t.Parallel()
			result := faults.Cause(t, faults.Fault{
				ID: "killed-at-every-step-" + sink, Area: "Process", Fault: "The daemon is killed at each step of a rebuild and of a rollback in " + sink,
				Promise: "The next start finds or makes one complete live generation with all its dead letters, and leaves nothing of what was half done.",
				Answer:  "`lanternist rebuild VIEW` again, if `lanternist status` shows the old generation",
			})
			in := install(t, options{tables: []string{"public.parts", "public.makers"}, views: map[string][]byte{"part": []byte(partView + section)}})
			in.database.Exec(fmt.Sprintf(`
				CREATE TABLE makers (id int PRIMARY KEY, name text);
				CREATE TABLE parts (id int PRIMARY KEY, name text, qty text, maker_id int);
				INSERT INTO makers SELECT i, 'maker ' || i FROM generate_series(1, 20) i;
				INSERT INTO parts SELECT i, 'part ' || i, i %% 9, i %% 25 FROM generate_series(1, %d) i;
				UPDATE parts SET qty = 'many' WHERE id = %s`, partRows, poisonedID))
			path, err := crashingBinary()
			if err != nil {
				t.Fatal(err)
			}
			k := killing{installation: in, binary: path, sink: sink}
			k.start("").must(projectors.KindRebuild) // a generation is kept from now on, to be gone back to, and then to be retired
			result.Notef("%d kills", k.everywhere())
		})
	}
}

// killing kills the daemons of an installation.
type killing struct {
	*installation
	binary string
	sink   string
	serial int
	d      *daemon
}

// start starts a daemon that ends at a place, and waits until it has found everything as it must be.
func (k *killing) start(place string) *killing {
	k.t.Helper()
	k.d = k.startBinary(k.binary, faultpoint.Variable+"="+place)
	k.d.ready()
	k.whole()
	return k
}

// everywhere kills the daemon at every moment of every kind of change. What starts after a kill has the next place in it.
func (k *killing) everywhere() (kills int) {
	k.d.kill()
	for _, kind := range []projectors.Kind{projectors.KindRebuild, projectors.KindRollback} {
		for _, place := range k.share(kind) {
			if !strings.HasPrefix(place, "part.") { // a sink's own place: what the last kill left is not removed while it is armed
				k.start("").d.kill()
			}
			k.start(place)
			k.write()
			if a, err := k.ask(http.MethodPost, "/v1/views/part/"+string(kind), nil); err == nil && a.status != http.StatusAccepted {
				k.t.Fatalf("%s: status %d: %s", kind, a.status, a.body)
			}
			if code := k.d.exit(readyWithin); code != -1 {
				k.t.Fatalf("the daemon ended with %d at %s, it was to be killed", code, place)
			}
			k.one(k.held())
			k.write()
			kills++
			if k.t.Failed() {
				k.t.Fatalf("after a kill at %s", place)
			}
		}
	}
	k.start("")
	for _, kind := range []projectors.Kind{projectors.KindRebuild, projectors.KindRollback, projectors.KindRebuild} {
		k.must(kind)
	}
	k.whole()
	k.d.stop()
	return kills
}

// share are the places of a change at which this installation is killed: those that both sinks have are divided among them.
func (k *killing) share(kind projectors.Kind) []string {
	own := moments(kind, k.sink)
	if inBothSinks {
		return own
	}
	inSink := func(sink, place string) string {
		return strings.Replace(place, "part."+k.sink+"/", "part."+sink+"/", 1)
	}
	return slices.DeleteFunc(own, func(place string) bool {
		search := slices.Index(moments(kind, "search"), inSink("search", place))
		if search < 0 || !slices.Contains(moments(kind, "cache"), inSink("cache", place)) {
			return false // only this sink has it
		}
		return (search%2 == 0) != (k.sink == "search")
	})
}

// must makes a change that is not cut off.
func (k *killing) must(kind projectors.Kind) {
	k.t.Helper()
	args := []string{"rebuild", "part"}
	if kind == projectors.KindRollback {
		args = append(args, "--rollback")
	}
	if code, stdout, stderr := k.run(args...); code != 0 {
		k.t.Fatalf("%s exited with %d:\n%s%s", kind, code, stdout, stderr)
	}
}

// write changes, adds and removes rows, of both tables.
func (k *killing) write() {
	k.serial++
	k.database.Exec(fmt.Sprintf(`
		UPDATE parts SET name = 'part ' || id || ' after %[1]d' WHERE id %% 100 = %[1]d %% 100;
		INSERT INTO parts VALUES (%[2]d, 'new', 1, 3);
		DELETE FROM parts WHERE id = %[2]d - 3;
		UPDATE makers SET name = 'maker after %[1]d' WHERE id = 1 + %[1]d %% 20`, k.serial, partRows+k.serial))
}

// generation is one that a sink holds.
type generation struct {
	live bool
	keys int // of what belongs to it; at least 1
}

// one wants exactly one live generation.
func (k *killing) one(held map[int]generation) (live int) {
	k.t.Helper()
	for number, g := range held {
		if !g.live {
			continue
		}
		if live != 0 {
			k.t.Errorf("generations %d and %d are live", live, number)
		}
		live = number
	}
	if live == 0 {
		k.t.Errorf("no generation is live: %+v", held)
	}
	return live
}

// whole wants one complete live generation, one kept to be gone back to, and nothing else in the sink or among the letters.
func (k *killing) whole() {
	k.t.Helper()
	k.settle()
	held := k.held()
	live := k.one(held)
	var known struct {
		Sinks map[string][]projectors.GenerationStatus `json:"sinks"`
	}
	if err := k.get("/v1/views/part/generations", &known); err != nil {
		k.t.Fatal(err)
	}
	for _, g := range known.Sinks[k.sink] {
		if _, ok := held[g.Number]; !ok || g.Live != (g.Number == live) {
			k.t.Errorf("generation %+v is held as %+v", g, held)
		}
		if g.Refusal != "" && !g.Live {
			k.t.Errorf("generation %d stays and %s", g.Number, g.Refusal)
		}
	}
	if len(known.Sinks[k.sink]) != len(held) || len(held) > 2 {
		k.t.Errorf("the sink holds %+v, the daemon knows %+v", held, known)
	}
	k.documentsAreRight()
	k.lettersAreRight(live, held)
}

// settle waits until the projector has reached what is committed. A read with a token would be refused: there is a letter.
func (k *killing) settle() {
	k.t.Helper()
	token := parseLSN(k.t, k.position())
	devstack.Eventually(k.t, reachWithin, func() error {
		k.d.alive()
		// A request that waits makes the source tell where it is.
		if _, err := k.ask(http.MethodGet, "/v1/views/part/none", url.Values{"after": {token.String()}, "wait": {"1s"}}); err != nil {
			return err
		}
		for _, p := range k.status().Projectors {
			if at := parseLSN(k.t, p.LSN); at < token || p.State != "running" {
				return fmt.Errorf("%s is %s at %s, want %s: %s", p.Projector, p.State, at, token, p.Error)
			}
		}
		return nil
	})
}

func (k *killing) documentsAreRight() {
	k.t.Helper()
	conn := k.database.Conn(k.t.Context())
	defer conn.Close(k.t.Context())
	rows, err := conn.Query(k.t.Context(), partTruth)
	if err != nil {
		k.t.Fatal(err)
	}
	var got documents
	if k.sink == "search" {
		got = k.searchDocuments("part")
		got[poisonedID] = nil
	} else {
		got = k.cacheDocuments("part")
	}
	n := 0
	for ; rows.Next(); n++ {
		var id string
		var want any
		if err := rows.Scan(&id, &want); err != nil {
			k.t.Fatal(err)
		}
		body, there := got[id]
		var has any
		if body == nil && there {
			continue // parked
		}
		if !there || json.Unmarshal(body, &has) != nil || !reflect.DeepEqual(has, want) {
			k.t.Errorf("document %s is %s, want %v", id, body, want)
		}
	}
	if err := rows.Err(); err != nil {
		k.t.Fatal(err)
	}
	if len(got) != n || n < partRows/2 {
		k.t.Errorf("%d documents, want %d", len(got), n)
	}
}

// lettersAreRight wants one letter for each generation that is held, the live one's under the projector's own name.
func (k *killing) lettersAreRight(live int, held map[int]generation) {
	k.t.Helper()
	var page struct {
		Letters []struct {
			Projector  string `json:"projector"`
			Generation int    `json:"generation"`
			Document   string `json:"document_id"`
		} `json:"letters"`
	}
	if err := k.get("/v1/deadletters", &page); err != nil {
		k.t.Fatal(err)
	}
	want := map[string]int{}
	if k.sink == "search" {
		for number := range held {
			if number == live {
				want["part.search"] = number
			} else {
				want[fmt.Sprintf("part.search-g%d", number)] = number
			}
		}
	}
	got := map[string]int{}
	for _, l := range page.Letters {
		got[l.Projector] = l.Generation
	}
	if !maps.Equal(got, want) || len(page.Letters) != len(want) {
		k.t.Errorf("letters %+v, want one of each of %v", page.Letters, want)
	}
}

// held is what the sink itself holds, by number of generation.
func (k *killing) held() map[int]generation {
	k.t.Helper()
	if k.sink == "search" {
		return k.heldIndices()
	}
	return k.heldKeys()
}

func (k *killing) heldIndices() map[int]generation {
	k.t.Helper()
	held := map[int]generation{}
	var indices map[string]struct {
		Aliases map[string]struct{} `json:"aliases"`
	}
	alias := k.searchPrefix + "part"
	k.elasticsearch(http.MethodGet, k.search+"/"+alias+"*?expand_wildcards=all", nil, &indices)
	for name, index := range indices {
		number, err := strconv.Atoi(strings.TrimPrefix(name, alias+"-g"))
		if err != nil {
			k.t.Errorf("there is an index %s", name)
		}
		_, live := index.Aliases[alias]
		if _, writer := index.Aliases[name+"-w"]; !writer || live && len(index.Aliases) != 2 || !live && len(index.Aliases) != 1 {
			k.t.Errorf("index %s has aliases %v", name, index.Aliases)
		}
		held[number] = generation{live: live, keys: 1}
	}
	return held
}

func (k *killing) heldKeys() map[int]generation {
	k.t.Helper()
	ctx := k.t.Context()
	opts, err := redis.ParseURL(k.cache)
	if err != nil {
		k.t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	defer db.Close()
	begin := k.cachePrefix + "{part}:"
	live, err := db.Get(ctx, begin+"live").Result()
	if err != nil {
		k.t.Fatal(err)
	}
	liveNumber, _, _ := strings.Cut(live, ":")
	held := map[int]generation{}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var keys []string
		if keys, cursor, err = db.Scan(ctx, cursor, begin+"*", 5000).Result(); err != nil {
			k.t.Fatal(err)
		}
		for _, key := range keys {
			name, _, inside := strings.Cut(strings.TrimPrefix(key, begin), ":")
			if !inside && slices.Contains([]string{"live", "generations"}, name) {
				continue
			}
			number, err := strconv.Atoi(strings.TrimPrefix(name, "g"))
			if err != nil {
				k.t.Errorf("there is a key %s", key)
			}
			g := held[number]
			g.live, g.keys = strconv.Itoa(number) == liveNumber, g.keys+1
			held[number] = g
		}
	}
	return held
}
