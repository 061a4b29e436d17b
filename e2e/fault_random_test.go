package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/faults"
)

// variableFaultsFor says for how long faults come at random.
const variableFaultsFor = "LANTERNIST_FAULTS_FOR"

// quietPoints is how often everything is compared: the last time at the end.
const quietPoints = 4

// TestFaultRandom causes faults at random, one every twenty seconds and several at once now and then, under 300 transactions a
// second, while readers check each answer. It is long: it runs when LANTERNIST_FAULTS_FOR says for how long.
func TestFaultRandom(t *testing.T) {
	text := os.Getenv(variableFaultsFor)
	if text == "" {
		t.Skipf("long: set %s=5m", variableFaultsFor)
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", variableFaultsFor, err)
	}
	result := faults.Cause(t, faults.Fault{
		ID: "random", Area: "Process", Fault: "All of the processes', the source's, the sinks' and the links' faults at random, one every 20 s and several at once now and then, under 300 transactions/s",
		Promise: "No document is missing, extra, old or never was; the journal has each transaction once, in the order of the commits; no read with a token is old; memory stays flat.",
		Answer:  "nothing: whatever ended is started again by the service manager",
	})
	random := randomSource(t)
	s := newStorm(t, random)
	s.blow()
	c := &chaos{storm: s, random: random, done: make(chan caused), busy: map[string]bool{}, tally: map[string]int{}}
	// Faults come for as long as was asked for: quiet points are not counted.
	every := min(max(long/40, 7*time.Second), 20*time.Second)
	began, rows := time.Now(), 0
	for point := range quietPoints {
		c.rage(t, long/quietPoints, every)
		rows += c.quiet(t, result, point)
	}
	s.calm()
	took := time.Since(began)
	n := s.transactions()
	t.Logf("%d faults of %d kinds in %v: %v", c.caused, len(c.tally), took.Round(time.Second), c.tally)
	t.Logf("%s", s.tally())
	flat := s.keeper.flat(t, began, took)
	s.judgeJournal(t)
	result.Notef("%d faults of %d kinds in %v, %d transactions (%.0f/s while the source could be written), %d documents compared; %s",
		c.caused, len(c.tally), took.Round(time.Second), n, float64(n)/c.writable.Seconds(), rows, flat)
}

// chaos causes faults.
type chaos struct {
	*storm
	random   *rand.Rand
	deck     []kind // what comes next; all kinds come before one comes again
	done     chan caused
	busy     map[string]bool
	running  int
	caused   int
	tally    map[string]int
	writable time.Duration
}

// caused is a fault that has ended.
type caused struct {
	kind kind
	err  error
}

// rage causes faults for some time, and ends when they have.
func (c *chaos) rage(t *testing.T, long, every time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	began := time.Now()
	next := time.NewTimer(every / 4)
	defer next.Stop()
	for ctx.Err() == nil || c.running > 0 {
		select {
		case <-next.C:
			if ctx.Err() == nil {
				c.some(t)
				next.Reset(every/2 + time.Duration(c.random.Int64N(int64(every))))
			}
		case d := <-c.done:
			c.running--
			c.use(d.kind, false)
			if d.err != nil && !tolerable(d.err) {
				t.Errorf("%s: %v", d.kind.ID, d.err)
			}
			c.wrong(t)
		}
	}
	c.writable += time.Since(began)
	c.wrong(t)
}

// tolerable says whether a fault may not have been caused for a reason that is none of the daemon's: the source was away for
// another one, or the time was over.
func tolerable(err error) bool {
	for _, text := range []string{"SQLSTATE 57", "connection refused", "connection reset", "unexpected EOF", "deadlock", "closed", "EOF", "failed to connect", "broken pipe"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// some begins one fault, or several.
func (c *chaos) some(t *testing.T) {
	t.Helper()
	n := 1
	if c.random.IntN(4) == 0 {
		n = 2 + c.random.IntN(2)
	}
	for range n {
		k, ok := c.draw()
		if !ok {
			return
		}
		c.use(k, true)
		c.running++
		c.caused++
		c.tally[k.ID]++
		t.Logf("%s: %s", time.Now().Format("15:04:05.000"), k.ID)
		own := rand.New(rand.NewPCG(c.random.Uint64(), 0))
		go func() { c.done <- caused{k, k.cause(t.Context(), c.storm, own)} }()
	}
}

func (c *chaos) use(k kind, busy bool) {
	for _, what := range strings.Fields(k.uses) {
		c.busy[what] = busy
	}
}

// draw takes the next kind of which nothing is in use.
func (c *chaos) draw() (kind, bool) {
	if len(c.deck) == 0 {
		c.deck = kinds()
		c.random.Shuffle(len(c.deck), func(i, j int) { c.deck[i], c.deck[j] = c.deck[j], c.deck[i] })
	}
	i := slices.IndexFunc(c.deck, func(k kind) bool {
		return !slices.ContainsFunc(strings.Fields(k.uses), func(what string) bool { return c.busy[what] })
	})
	if i < 0 {
		return kind{}, false
	}
	k := c.deck[i]
	c.deck = slices.Delete(c.deck, i, i+1)
	return k, true
}

// quiet stops all writing, waits until everything is right again, and compares everything.
func (c *chaos) quiet(t *testing.T, result *faults.Result, point int) int {
	t.Helper()
	began := time.Now()
	noise := c.silence()
	defer noise()
	c.settle(t)
	took := time.Since(began)
	result.Recovered(took)
	c.wrong(t)
	n := c.judge(t)
	c.audit.collect()
	t.Logf("quiet point %d: everything was right after %v; %d documents compared, %d transactions in the source's order so far",
		point+1, took.Round(10*time.Millisecond), n, len(c.audit.seen))
	if t.Failed() {
		t.FailNow()
	}
	return n
}

// memoryGrowth and memoryMore bound what the daemon's memory may grow by, from the second quarter of the run to the last.
const (
	memoryGrowth = 1.3
	memoryMore   = 64 << 20
)

// flat compares the daemon's memory in the last quarter with that in the second.
func (k *keeper) flat(t *testing.T, began time.Time, took time.Duration) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	quarters := make([][]int64, 4)
	most := int64(0)
	for _, s := range k.memory {
		if q := int(4 * s.at.Sub(began) / took); q >= 0 && q < 4 {
			quarters[q] = append(quarters[q], s.bytes)
			most = max(most, s.bytes)
		}
	}
	if len(quarters[1]) == 0 || len(quarters[3]) == 0 {
		return "memory not measured"
	}
	second, last := median(quarters[1]), median(quarters[3])
	text := fmt.Sprintf("memory: median %d MiB in the second quarter, %d MiB in the last, at most %d MiB", second>>20, last>>20, most>>20)
	t.Log(text)
	if bound := int64(float64(second)*memoryGrowth) + memoryMore; last > bound && !raced {
		t.Errorf("memory is not flat: want at most %d MiB in the last quarter", bound>>20)
	}
	return text
}

func median(values []int64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
