package projectors

import (
	"slices"
	"sync"

	"github.com/lanternist/lanternist/internal/faultpoint"
)

// Kind says how another generation comes to be the live one.
type Kind string

// The kinds of changes.
const (
	KindRebuild  Kind = "rebuild"  // a new one is built
	KindRollback Kind = "rollback" // an older one catches up
)

// Step is what a rebuild or a rollback is doing. A process may be killed at any moment of any of them: the generation that was
// live stays so up to StepPromoting and is not any more after it, and what was left half done is completed or removed when the
// runner starts again.
type Step string

// The steps, in the order in which they are taken. Only a rebuild takes the first three and StepVerifying, only a rollback
// StepOpening.
const (
	StepCreating         Step = "creating"                   // the new generation in the sink, which no reader sees
	StepFilling          Step = "filling"                    // it from one snapshot of the mirror
	StepSaving           Step = "saving the checkpoint"      // of what was filled
	StepOpening          Step = "opening"                    // the older generation and its checkpoint
	StepCatchingUp       Step = "catching up"                // with what was committed since
	StepVerifying        Step = "verifying"                  // a sample of its documents against the mirror
	StepPreparing        Step = "preparing the promotion"    // what need not be done while nobody follows the journal
	StepHandingOver      Step = "handing over"               // to whoever follows the journal, who then catches up with the rest
	StepSavingLive       Step = "saving the live checkpoint" // of the generation that is live so far, so that it can be gone back to
	StepPromoting        Step = "promoting"                  // readers are sent to the other generation, in one atomic step
	StepAdoptingLetters  Step = "adopting letters"           // dead letters of the other generation become those of the projector
	StepReleasingJournal Step = "releasing the journal"      // the former live generation saves where it is, and holds the journal no longer
	StepRetiring         Step = "retiring"                   // generations beyond those that are kept are removed
)

var rebuildSteps = []Step{
	StepCreating, StepFilling, StepSaving, StepCatchingUp, StepVerifying, StepPreparing, StepHandingOver, StepSavingLive,
	StepPromoting, StepAdoptingLetters, StepReleasingJournal, StepRetiring,
}

var rollbackSteps = []Step{
	StepOpening, StepCatchingUp, StepPreparing, StepHandingOver, StepSavingLive, StepPromoting, StepAdoptingLetters,
	StepReleasingJournal, StepRetiring,
}

// Steps are the steps of a change, in order.
func (k Kind) Steps() []Step {
	if k == KindRollback {
		return slices.Clone(rollbackSteps)
	}
	return slices.Clone(rebuildSteps)
}

// course is how far the change under way is. It is safe for concurrent use; its zero value is none.
type course struct {
	projector string

	mu    sync.Mutex
	now   *BuildProgress // nil when there is none
	taken []Step         // by the last change
}

func (c *course) begin(kind Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.taken = &BuildProgress{Kind: kind}, nil
}

func (c *course) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = nil
}

// enter says that a step is about to be taken.
func (c *course) enter(s Step) {
	c.mu.Lock()
	var kind Kind
	if c.now != nil {
		kind, c.now.Step = c.now.Kind, s
		c.taken = append(c.taken, s)
	}
	c.mu.Unlock()
	faultpoint.Hit(c.projector, string(kind), string(s))
}

// within says that a part of the step's effect has been had.
func (c *course) within() {
	if faultpoint.Enabled {
		kind, s := c.at()
		faultpoint.Hit(c.projector, string(kind), string(s), "within")
	}
}

// done says that the step has had its effect.
func (c *course) done() {
	if faultpoint.Enabled {
		kind, s := c.at()
		faultpoint.Hit(c.projector, string(kind), string(s), "done")
	}
}

func (c *course) at() (Kind, Step) {
	if now := c.progress(); now != nil {
		return now.Kind, now.Step
	}
	return "", ""
}

// hold says why the step is held back; "" when it is not.
func (c *course) hold(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		c.now.HeldBack = why
	}
}

// count tells how much of the step that counts is done.
func (c *course) count(done, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		c.now.Done, c.now.Total = done, total
	}
}

// progress is a copy of how far it is; nil when there is no change under way.
func (c *course) progress() *BuildProgress {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil
	}
	now := *c.now
	return &now
}
