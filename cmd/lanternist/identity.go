package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/identity"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// keyIdentity is where the name of the source is, for those who need no more of the record.
const keyIdentity = "identity/source"

// journalPlace is where the journal is, for people.
func journalPlace(cfg *config.Config) string {
	if cfg.Journal.URL.IsZero() {
		return cfg.Path(cfg.Journal.Dir)
	}
	return "stream " + cfg.Journal.Stream
}

// journalFacts reads from an engine what journal it holds.
func journalFacts(ctx context.Context, cfg *config.Config, engine journal.Log) (identity.JournalFacts, error) {
	facts := identity.JournalFacts{Where: journalPlace(cfg), Shared: !cfg.Journal.URL.IsZero()}
	_, last, err := engine.Bounds(ctx)
	if err != nil || last == 0 {
		return facts, wrap("read the journal's end", err)
	}
	text, err := engine.Read(ctx, last)
	if err != nil {
		return facts, fmt.Errorf("read the journal's end, batch %d: %w", last, err)
	}
	entry, err := journal.ReadEntry(text)
	if err != nil {
		return facts, fmt.Errorf("read the journal's end, batch %d: %w", last, err)
	}
	facts.ID, facts.Head = entry.Journal().String(), entry.Last()
	facts.CommitLSN, facts.EndLSN = entry.CommitLSN(), entry.EndLSN()
	return facts, nil
}

// mirrorFacts reads what mirror it is.
func mirrorFacts(cfg *config.Config, m *mirror.Mirror) (facts identity.MirrorFacts, err error) {
	facts.Where, facts.Offset = cfg.Path(cfg.Mirror.Dir), m.Position()
	if facts.Journal, err = m.JournalID(); err != nil || facts.Journal == "" {
		return facts, err // it is new
	}
	facts.ID, err = m.Identity()
	return facts, err
}

// openStores opens what is compared: the journal's engine and the mirror.
func (d *deployment) openStores(ctx context.Context) (err error) {
	if d.engine, err = openEngineOn(ctx, d.disks.journal, d.cfg, d.log); err != nil {
		return err
	}
	d.onClose(func() error {
		if d.engine == nil {
			return nil // the journal closes it
		}
		return d.engine.Close()
	})
	d.mirror, err = mirror.Open(mirror.Config{Dir: d.cfg.Path(d.cfg.Mirror.Dir), CacheSize: int64(d.cfg.Mirror.Cache), Disk: d.disks.mirror}, d.registry, d.log)
	if err != nil {
		return fmt.Errorf("open mirror: %w", err)
	}
	d.onClose(func() error {
		if d.mirror == nil {
			return nil
		}
		return d.mirror.Close()
	})
	return nil
}

// readIdentity reads the record and everything that it is compared with, but for the source.
func (d *deployment) readIdentity(ctx context.Context) (facts *identity.Facts, err error) {
	facts = &identity.Facts{Slot: d.cfg.Source.Slot, Publication: d.cfg.Source.Publication}
	if facts.Record, facts.Early, err = identity.Read(ctx, d.control); err != nil {
		return nil, err
	}
	if facts.Journal, err = journalFacts(ctx, d.cfg, d.engine); err != nil {
		return nil, err
	}
	if facts.Mirror, err = mirrorFacts(d.cfg, d.mirror); err != nil {
		return nil, err
	}
	facts.Acknowledged, err = ingest.Acknowledged(ctx, d.control)
	return facts, err
}

// openSource sees to it that the database can be read, and that it is the one that journal and mirror belong to. What is wrong
// is said all at once. Nothing is made in the database before.
func (d *deployment) openSource(ctx context.Context) error {
	facts, err := d.readIdentity(ctx)
	if err != nil {
		return err
	}
	source := sourceConfig(d.cfg)
	report, err := cdc.Preflight(ctx, source)
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	if err := d.tolerate(ctx, report); err != nil {
		return err
	}
	if report.Source.SystemID != "" {
		if facts.Source, err = cdc.Look(ctx, source); err != nil {
			return fmt.Errorf("look at the source: %w", err)
		}
	}
	findings := identity.Compare(facts)
	d.tell(findings)
	pending, err := readPending(ctx, d.control)
	if err != nil {
		return err
	}
	switch {
	case pending == nil && findings.Stops() && !d.accept:
		return badInput(refused(findings, report))
	case facts.Source == nil || otherwise(report) != nil:
		if passing(report) {
			return preflightError(report)
		}
		return badInput(preflightError(report))
	case pending != nil || findings.Stops() || d.accept && report.Has("slot-lost"):
		return d.acceptGap(ctx, facts, findings, pending)
	}
	if !report.OK() {
		return badInput(preflightError(report))
	}
	if d.source, err = cdc.Setup(ctx, source); err != nil {
		return fmt.Errorf("set up the source: %w", err)
	}
	return d.recognize(ctx, facts)
}

// aboutIdentity are the codes of problems that a comparison of identities says better.
var aboutIdentity = []string{"slot-lost", "slot-missing"}

// otherwise is what a report says that is not about identity; nil when that is nothing.
func otherwise(report *cdc.Report) error {
	rest := report.Without(aboutIdentity...)
	if rest.OK() {
		return nil
	}
	return preflightError(rest)
}

// refused is why the daemon does not start.
func refused(findings identity.Findings, report *cdc.Report) error {
	return errors.Join(findings, otherwise(report))
}

// tell logs what heals by itself.
func (d *deployment) tell(findings identity.Findings) {
	for _, f := range findings {
		if f.Heals {
			d.log.Warn("identity changed", "code", string(f.Code), "what", f.What, "next", f.Next)
		}
	}
	d.findings = findings
}

// recognize notes the source as the one that everything belongs to. Positions that it has left with a timeline are given up.
func (d *deployment) recognize(ctx context.Context, facts *identity.Facts) error {
	r := facts.Record
	if r == nil {
		r = &identity.Record{}
	}
	now := facts.Source
	left, promoted := now.Left(r.Source.Timeline)
	promoted = promoted && r.Source.SystemID == now.SystemID && r.Source.Timeline != now.Timeline
	acknowledged := facts.Acknowledged
	switch {
	case promoted && acknowledged > left:
		acknowledged = left
	case acknowledged == 0 && facts.Journal.EndLSN == 0:
		acknowledged = d.source.ConfirmedFlush // what a slot sends that is made later begins after it
	}
	if acknowledged != facts.Acknowledged {
		if err := ingest.SetAcknowledged(ctx, d.control, acknowledged); err != nil {
			return err
		}
	}
	d.identity = r
	return d.noteSource(ctx)
}

// noteSource reads the source as it is after it was set up, and takes it into the record.
func (d *deployment) noteSource(ctx context.Context) error {
	now, err := cdc.Look(ctx, sourceConfig(d.cfg))
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	r := d.identity
	r.Source.Publication, r.Slot.Name = d.cfg.Source.Publication, d.cfg.Source.Slot
	if d.source.Created {
		r.Slot.Created = d.source.ConfirmedFlush
	}
	r.Take(now)
	if now.Publication != nil {
		d.source.PublicationOID = now.Publication.OID
	}
	// Before there is a journal: one without a record has lost its control store.
	return r.Write(ctx, d.control)
}

// saveIdentity writes the record when the journal and the mirror are open, and again when what it says has changed.
func (d *deployment) saveIdentity(ctx context.Context) error {
	d.identityMu.Lock()
	defer d.identityMu.Unlock()
	r, head := d.identity, d.journal.Head().Offset
	mirrorID, err := d.mirror.Identity()
	if err != nil {
		return err
	}
	generations := map[string]string{}
	for _, runner := range d.runners.list() {
		if s := runner.Status(); s.Generation != 0 {
			generations[runner.Name()] = fmt.Sprintf("g%d", s.Generation)
		} else if was := r.Generations[runner.Name()]; was != "" {
			generations[runner.Name()] = was // the sink has not told yet
		}
	}
	now := identity.Journal{ID: d.journal.Identity(), Head: head}
	if r.Journal == now && r.Mirror == mirrorID && sameMap(r.Generations, generations) && !r.Written.IsZero() && time.Since(r.Written) < time.Hour {
		return nil
	}
	r.Journal, r.Mirror, r.Generations = now, mirrorID, generations
	return r.Write(ctx, d.control)
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// countTimeout bounds what counting may take: a daemon that stops does not wait for a source that is away.
const countTimeout = 2 * time.Second

// countDecoded notes how much was read from the slot: by that a slot that is made anew is told from one that somebody moved.
func (d *deployment) countDecoded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	conn, err := cdc.Connect(ctx, sourceConfig(d.cfg))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := cdc.ReadSlot(ctx, conn, d.cfg.Source.Slot)
	if err != nil {
		return err
	}
	d.identityMu.Lock()
	defer d.identityMu.Unlock()
	if slot.Decoded > d.identity.Slot.Decoded {
		d.identity.Slot.Decoded = slot.Decoded
		return d.identity.Write(ctx, d.control)
	}
	return nil
}

// findingsNow compares once more, while everything is open.
func (d *deployment) findingsNow(ctx context.Context) (identity.Findings, error) {
	facts := &identity.Facts{Slot: d.cfg.Source.Slot, Publication: d.cfg.Source.Publication, Record: d.identity}
	head := d.journal.Head()
	facts.Journal = identity.JournalFacts{ID: d.journal.Identity(), Where: journalPlace(d.cfg), Head: head.Offset, CommitLSN: head.CommitLSN, EndLSN: head.EndLSN}
	var err error
	if facts.Mirror, err = mirrorFacts(d.cfg, d.mirror); err != nil {
		return nil, err
	}
	if facts.Acknowledged, err = ingest.Acknowledged(ctx, d.control); err != nil {
		return nil, err
	}
	if facts.Source, err = cdc.Look(ctx, sourceConfig(d.cfg)); err != nil {
		return nil, err
	}
	return identity.Compare(facts), nil
}

// explain adds to an error of the stream what is not as it was, and what a person can do about it.
func (n *daemon) explain(err error) error {
	about := false
	for _, one := range []error{
		cdc.ErrSlotMissing, cdc.ErrSlotAhead, cdc.ErrSlotLost, cdc.ErrSourceChanged, cdc.ErrPublicationChanged,
	} {
		about = about || errors.Is(err, one)
	}
	if !about {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	// A slot that is ahead of what we know of the journal is no loss when somebody else has journaled what is between.
	if other := n.journal.Alone(ctx); errors.Is(other, journal.ErrFenced) {
		return fmt.Errorf("another process has taken this one's place: stop this one: %w; %w", other, err)
	}
	findings, looking := n.findingsNow(ctx)
	switch {
	case looking != nil:
		return errors.Join(err, fmt.Errorf("what else is not as it was cannot be seen: %w; see: lanternist source show", looking))
	case !findings.Stops():
		return fmt.Errorf("%w\nsee: lanternist source show", err)
	}
	return fmt.Errorf("%w\n%w", err, findings)
}

// renewMirror closes the mirror and begins a new one in its folder.
func (d *deployment) renewMirror() error {
	dir, was := d.cfg.Path(d.cfg.Mirror.Dir), d.mirror
	d.mirror = nil
	if err := was.Close(); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove mirror: %w", err)
	}
	fresh, err := mirror.Open(mirror.Config{Dir: dir, CacheSize: int64(d.cfg.Mirror.Cache), Disk: d.disks.mirror}, d.registry, d.log)
	if err != nil {
		return fmt.Errorf("open mirror: %w", err)
	}
	d.mirror = fresh
	return nil
}

// storedIdentity looks at what is stored and at the source while no daemon runs, without changing anything.
func storedIdentity(ctx context.Context, cfg *config.Config, store control.Store) (*identity.Facts, error) {
	facts := &identity.Facts{Slot: cfg.Source.Slot, Publication: cfg.Source.Publication}
	var err error
	if facts.Record, facts.Early, err = identity.Read(ctx, store); err != nil {
		return nil, err
	}
	engine, err := viewEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	facts.Journal.Where = journalPlace(cfg)
	if engine != nil {
		facts.Journal, err = journalFacts(ctx, cfg, engine)
		if err = errors.Join(err, engine.Close()); err != nil {
			return nil, err
		}
	}
	facts.Mirror.Where = cfg.Path(cfg.Mirror.Dir)
	if _, err := os.Stat(facts.Mirror.Where); err == nil {
		m, err := mirror.Open(mirror.Config{Dir: facts.Mirror.Where}, noSchemas{}, quiet)
		if err != nil {
			return nil, fmt.Errorf("open mirror: %w", err)
		}
		facts.Mirror, err = mirrorFacts(cfg, m)
		if err = errors.Join(err, m.Close()); err != nil {
			return nil, err
		}
	}
	if facts.Acknowledged, err = ingest.Acknowledged(ctx, store); err != nil {
		return nil, err
	}
	facts.Source, err = cdc.Look(ctx, sourceConfig(cfg))
	return facts, err
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
