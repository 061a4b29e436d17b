package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/faults"
)

// TestFaultAlone causes each kind of fault that a storm knows alone, under the same traffic and before the same readers, and
// compares everything after each of them.
func TestFaultAlone(t *testing.T) {
	if !faults.Heavy() {
		t.Skipf("heavy: set %s=all", faults.VariableSize)
	}
	random := randomSource(t)
	s := newStorm(t, random)
	s.alone = true
	s.blow()
	for _, k := range kinds() {
		k.Heavy = true
		t.Run(k.ID, func(t *testing.T) {
			result := faults.Cause(t, k.Fault)
			s.causeAlone(t, k, result, rand.New(rand.NewPCG(random.Uint64(), 0)))
		})
		if t.Failed() {
			break // what follows would be judged on what is broken already
		}
	}
	s.calm()
	t.Log(s.tally())
	s.judgeJournal(t)
}

// causeAlone causes one fault under traffic, waits until everything that was written until its end is right, and compares
// everything.
func (s *storm) causeAlone(t *testing.T, k kind, result *faults.Result, random *rand.Rand) {
	t.Helper()
	answers := s.answers()
	if err := k.cause(t.Context(), s, random); err != nil && !tolerable(err) {
		t.Fatal(err)
	}
	began := time.Now()
	noise := s.silence()
	defer noise()
	s.settle(t)
	result.Recovered(time.Since(began))
	s.wrong(t)
	compared := s.judge(t)
	s.audit.collect()
	result.Parked(0) // settle wants none
	result.Notef("%d documents compared, %d answers to reads with tokens, none old", compared, s.answers()-answers)
}

func (s *storm) answers() (n int64) {
	for _, r := range s.readers {
		n += r.answers.Load()
	}
	return n
}
