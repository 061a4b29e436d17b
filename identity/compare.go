package identity

import (
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/event"
)

// Facts are what there is now.
type Facts struct {
	Record *Record // nil: nothing is on record
	Early  string  // the source that a version knew which kept no record

	Source      *cdc.State // nil: the source was not asked
	Slot        string     // its configured name
	Publication string     // its configured name

	Journal      JournalFacts
	Mirror       MirrorFacts
	Acknowledged pglogrepl.LSN // beyond the journal's last transaction
}

// JournalFacts are what a journal says of itself.
type JournalFacts struct {
	ID        string // "": it is empty
	Where     string // folder or stream, for people
	Shared    bool   // a stream of a server, which others may use
	Head      event.Offset
	CommitLSN pglogrepl.LSN // of the last transaction, in whole or in part
	EndLSN    pglogrepl.LSN // of the last that is whole
}

// MirrorFacts are what a mirror says of itself.
type MirrorFacts struct {
	ID      string // "": it is new
	Journal string // that it belongs to
	Where   string
	Offset  event.Offset
}

// Code names a case, for programs.
type Code string

// The cases.
const (
	SourceOtherSystem   Code = "source-other-system"
	SourceOtherDatabase Code = "source-other-database"
	SourceWentBack      Code = "source-went-back"
	SourceDiverged      Code = "source-diverged"
	SourcePromoted      Code = "source-promoted"
	SlotMissing         Code = "slot-missing"
	SlotLost            Code = "slot-lost"
	SlotRecreated       Code = "slot-recreated"
	SlotAhead           Code = "slot-ahead"
	SlotBehind          Code = "slot-behind"
	PublicationMissing  Code = "publication-missing"
	PublicationReplaced Code = "publication-recreated"
	PublicationOwner    Code = "publication-owner"
	ControlLost         Code = "control-lost"
	JournalLost         Code = "journal-lost"
	JournalOlder        Code = "journal-older"
	JournalOther        Code = "journal-other"
	MirrorLost          Code = "mirror-lost"
	MirrorOlder         Code = "mirror-older"
	MirrorOther         Code = "mirror-other"
)

// Finding is one thing that is not as it was.
type Finding struct {
	Code  Code   `json:"code"`
	What  string `json:"what"`        // for a person, with the positions that are concerned
	Next  string `json:"next"`        // what resolves it: a command first, or "nothing: …"
	Heals bool   `json:"heals"`       // the daemon resolves it by itself
	Gap   bool   `json:"gap"`         // resolving it means to accept that changes are missing in the journal
	Anew  bool   `json:"new_journal"` // … and to begin a new journal
}

func (f *Finding) Error() string { return fmt.Sprintf("%s: %s\n  next: %s", f.Code, f.What, f.Next) }

// AcceptCommand is what accepts a gap.
const AcceptCommand = "lanternist source accept-gap"

// Findings are all that is not as it was.
type Findings []Finding

// Stops says whether something is among them that the daemon does not resolve by itself.
func (all Findings) Stops() bool {
	for _, f := range all {
		if !f.Heals {
			return true
		}
	}
	return false
}

// Gap says whether a gap resolves what stops the daemon, and whether a new journal is begun for it.
func (all Findings) Gap() (gap, anew bool) {
	for _, f := range all {
		gap, anew = gap || f.Gap, anew || f.Anew
	}
	return gap, anew
}

// Has says whether a case is among them.
func (all Findings) Has(code Code) bool {
	for _, f := range all {
		if f.Code == code {
			return true
		}
	}
	return false
}

// Error is everything that stops the daemon.
func (all Findings) Error() string {
	lines := []string{"what is stored and the source do not go together:"}
	for i := range all {
		if !all[i].Heals {
			lines = append(lines, "  "+strings.ReplaceAll(all[i].Error(), "\n", "\n  "))
		}
	}
	return strings.Join(lines, "\n")
}

// Compare says what is not as it was. What the record does not know is taken as it is.
func Compare(f *Facts) Findings {
	var all Findings
	if lost := f.control(); lost != nil {
		return Findings{*lost} // without it nothing else can be judged
	}
	all = append(all, f.journal()...)
	all = append(all, f.mirror()...)
	if f.Source != nil {
		all = append(all, f.source()...)
	}
	return all
}

// durable is the position up to which everything is known here.
func (f *Facts) durable() pglogrepl.LSN {
	return max(f.Journal.CommitLSN, f.Journal.EndLSN, f.Acknowledged)
}

// begun says that something was read from the source before.
func (f *Facts) begun() bool { return f.durable() != 0 || f.Record != nil && f.Record.Slot.Name != "" }

func (f *Facts) control() *Finding {
	if f.Record != nil || f.Early != "" || f.Journal.ID == "" && f.Mirror.ID == "" {
		return nil
	}
	what := "the control store is new, but "
	if f.Journal.ID != "" {
		what += fmt.Sprintf("journal %s in %s goes up to %s", f.Journal.ID, f.Journal.Where, f.Journal.Head)
	} else {
		what += fmt.Sprintf("the mirror in %s goes up to %s", f.Mirror.Where, f.Mirror.Offset)
	}
	return &Finding{Code: ControlLost, Gap: true, Anew: true, What: what + ": without the table definitions in the control store neither can be read",
		Next: AcceptCommand + "   (begins a new journal and loads all tables), or restore the control store that belongs to them"}
}

func (f *Facts) journal() Findings {
	r := f.Record
	if r == nil || r.Journal.ID == "" {
		return nil
	}
	restore := "restore the newer copy of " + f.Journal.Where + ", or: " + AcceptCommand + "   (begins a new journal and loads all tables)"
	switch {
	case f.Journal.ID == "":
		return Findings{{Code: JournalLost, Gap: true, Anew: true, Next: restore,
			What: fmt.Sprintf("the journal in %s is empty, journal %s went up to %s", f.Journal.Where, r.Journal.ID, r.Journal.Head)}}
	case f.Journal.ID != r.Journal.ID && f.Journal.Shared:
		return Findings{{Code: JournalOther, Next: "set journal.url and journal.stream to this deployment's own stream",
			What: fmt.Sprintf("%s holds journal %s, this deployment's is %s (up to %s)", f.Journal.Where, f.Journal.ID, r.Journal.ID, r.Journal.Head)}}
	case f.Journal.ID != r.Journal.ID:
		return Findings{{Code: JournalOther, Gap: true, Anew: true,
			What: fmt.Sprintf("%s holds journal %s, this deployment's is %s (up to %s)", f.Journal.Where, f.Journal.ID, r.Journal.ID, r.Journal.Head),
			Next: "point journal.dir (or journal.url and journal.stream) back to it, or: " + AcceptCommand + "   (begins a new journal and loads all tables)"}}
	case f.Journal.Head < max(r.Journal.Head, f.ownMirror()):
		return Findings{{Code: JournalOlder, Gap: true, Anew: true, Next: restore,
			What: fmt.Sprintf("the journal in %s ends at %s (%s), it had %s: it is an older copy, events from %s to %s are missing",
				f.Journal.Where, f.Journal.Head, f.Journal.EndLSN, max(r.Journal.Head, f.ownMirror()), f.Journal.Head, max(r.Journal.Head, f.ownMirror()))}}
	}
	return nil
}

// ownMirror is how far the mirror is, when it belongs to the journal.
func (f *Facts) ownMirror() event.Offset {
	if f.Mirror.Journal == f.Journal.ID {
		return f.Mirror.Offset
	}
	return 0
}

func (f *Facts) mirror() Findings {
	r := f.Record
	switch m := f.Mirror; {
	case m.Journal != "" && f.Journal.ID != "" && m.Journal != f.Journal.ID && (r == nil || f.Journal.ID == r.Journal.ID):
		return Findings{{Code: MirrorOther, What: fmt.Sprintf("the mirror in %s belongs to journal %s, not to %s", m.Where, m.Journal, f.Journal.ID),
			Next: "rm -r " + m.Where + "   (all tables are loaded again), or point mirror.dir back"}}
	case r == nil || r.Mirror == "" || f.Journal.ID != r.Journal.ID:
		return nil
	case m.ID == "":
		return Findings{{Code: MirrorLost, Heals: true, What: fmt.Sprintf("the mirror in %s is new, it was %s", m.Where, r.Mirror),
			Next: "nothing: all tables are loaded again"}}
	case m.ID != r.Mirror:
		return Findings{{Code: MirrorOther, What: fmt.Sprintf("%s holds mirror %s, this deployment's is %s", m.Where, m.ID, r.Mirror),
			Next: "rm -r " + m.Where + "   (all tables are loaded again), or point mirror.dir back"}}
	}
	return nil
}

func (f *Facts) source() Findings {
	if f.Record == nil && f.Early != "" && f.Early != f.Source.SystemID+"/"+f.Source.Database {
		return Findings{f.otherSource(SourceOtherSystem, f.Early)}
	}
	if changed := f.history(); len(changed) > 0 {
		if changed.Stops() {
			return changed // positions of another history say nothing
		}
		return append(changed, f.reading()...)
	}
	return f.reading()
}

func (f *Facts) otherSource(code Code, was string) Finding {
	now := f.Source
	return Finding{Code: code, Gap: true, Anew: true,
		What: fmt.Sprintf("the source is system %s, database %s (OID %d), but journal and mirror belong to %s: it was replaced, or restored from a dump",
			now.SystemID, now.Database, now.DatabaseOID, was),
		Next: "point source.url back, or, when it is meant to replace the other: " + AcceptCommand + "   (begins a new journal and loads all tables)"}
}

// history compares system, database and timeline.
func (f *Facts) history() Findings {
	r, now := f.Record, f.Source
	if r == nil || r.Source.SystemID == "" {
		return nil
	}
	was := r.Source
	name := fmt.Sprintf("system %s, database %s (OID %d)", was.SystemID, was.Database, was.DatabaseOID)
	restored := AcceptCommand + "   (begins a new journal and loads all tables), or point source.url to the server that has what is missing"
	switch {
	case now.SystemID != was.SystemID:
		return Findings{f.otherSource(SourceOtherSystem, name)}
	case now.DatabaseOID != was.DatabaseOID || now.Database != was.Database:
		return Findings{f.otherSource(SourceOtherDatabase, name)}
	case now.Timeline == was.Timeline:
		if now.Flush < f.durable() {
			return Findings{{Code: SourceWentBack, Gap: true, Anew: true, Next: restored,
				What: fmt.Sprintf("the source's log ends at %s, but everything up to %s was read from it: it was restored from an older copy, what was committed from %s to %s is gone there",
					now.Flush, f.durable(), now.Flush, f.durable())}}
		}
		return nil
	}
	left, known := now.Left(was.Timeline)
	switch {
	case !known:
		return Findings{{Code: SourceDiverged, Gap: true, Anew: true, Next: restored,
			What: fmt.Sprintf("the source is at timeline %d, whose history does not have timeline %d: it was restored from a backup of before", now.Timeline, was.Timeline)}}
	case f.Journal.CommitLSN >= left:
		return Findings{{Code: SourceDiverged, Gap: true, Anew: true, Next: restored,
			What: fmt.Sprintf("the source left timeline %d at %s for timeline %d, but the journal has transactions up to %s of it: what was committed from %s to %s is gone there (restored to a point in time, or a standby was promoted that was behind)",
				was.Timeline, left, now.Timeline, f.Journal.CommitLSN, left, f.Journal.CommitLSN)}}
	}
	return Findings{{Code: SourcePromoted, Heals: true, Next: "nothing: it is read on from there; tokens of before are answered 410",
		What: fmt.Sprintf("the source left timeline %d at %s for timeline %d, as after a failover; everything here is from before", was.Timeline, left, now.Timeline)}}
}

// reading compares slot and publication.
func (f *Facts) reading() Findings {
	var all Findings
	if slot := f.slot(); slot != nil {
		all = append(all, *slot)
	}
	if f.Record == nil || f.Record.Source.PublicationOID == 0 || f.Record.Source.Publication != f.Publication {
		return all
	}
	was, now := f.Record.Source, f.Source.Publication
	switch {
	case now == nil:
		all = append(all, Finding{Code: PublicationMissing, Gap: true,
			What: fmt.Sprintf("publication %s (OID %d) does not exist any more: what was committed without it is not sent", f.Publication, was.PublicationOID),
			Next: AcceptCommand + "   (makes publication and slot anew and loads all tables)"})
	case now.OID != was.PublicationOID:
		all = append(all, Finding{Code: PublicationReplaced, Gap: true,
			What: fmt.Sprintf("publication %s was dropped and created again (OID %d, was %d): what was committed in between is not sent", f.Publication, now.OID, was.PublicationOID),
			Next: AcceptCommand + "   (makes the slot anew and loads all tables)"})
	case now.Owner != was.PublicationOwner:
		all = append(all, Finding{Code: PublicationOwner, Heals: true,
			What: fmt.Sprintf("publication %s belongs to role %q now, it was %q's", f.Publication, now.Owner, was.PublicationOwner),
			Next: "nothing: it is read as before; adding tables is for its owner"})
	}
	return all
}

// slot compares the slot with what is durable here.
func (f *Facts) slot() *Finding {
	now, known := f.Source.Slot, f.durable()
	if f.Source.Timeline != 0 && f.Record != nil && f.Record.Source.Timeline != f.Source.Timeline {
		if left, ok := f.Source.Left(f.Record.Source.Timeline); ok {
			known = min(known, left) // positions beyond are of the timeline that was left
		}
	}
	accept := AcceptCommand + "   (makes a new slot, writes the gap into the journal and loads all tables)"
	switch {
	case !f.begun():
		return nil
	case now == nil:
		return &Finding{Code: SlotMissing, Gap: true, Next: accept,
			What: fmt.Sprintf("replication slot %s does not exist any more; the journal has everything up to %s, the source's log ends at %s: what was committed in between cannot be read", f.Slot, known, f.Source.Flush)}
	case now.Lost():
		why := now.Invalidation
		if why == "" {
			why = "wal_status lost"
		}
		return &Finding{Code: SlotLost, Gap: true, Next: accept + "; so that it does not happen again: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();",
			What: fmt.Sprintf("the server removed what replication slot %s had not read (%s): what was committed from %s to %s cannot be read", f.Slot, why, known, f.Source.Flush)}
	case now.ConfirmedFlush > known && known != 0:
		return f.slotAhead(known, accept)
	case f.Record != nil && now.ConfirmedFlush < known && f.Journal.CommitLSN > now.ConfirmedFlush:
		return &Finding{Code: SlotBehind, Heals: true, Next: "nothing: what comes again is skipped",
			What: fmt.Sprintf("replication slot %s is at %s, the journal at %s, as after a crash of the server", f.Slot, now.ConfirmedFlush, known)}
	}
	return nil
}

// slotAhead tells a slot that was made anew from one that somebody moved. One that still holds what is known here cannot be new;
// one from which less was read than before is.
func (f *Facts) slotAhead(known pglogrepl.LSN, accept string) *Finding {
	now := f.Source.Slot
	missing := fmt.Sprintf("what was committed from %s to %s cannot be read", known, now.ConfirmedFlush)
	before := int64(-1)
	if f.Record != nil {
		before = f.Record.Slot.Decoded
	}
	switch {
	case now.RestartLSN > known && now.Decoded >= 0 && now.Decoded < before:
		return &Finding{Code: SlotRecreated, Gap: true, Next: accept,
			What: fmt.Sprintf("replication slot %s was dropped and created again (%d transactions were read from it, %d before): it begins at %s, the journal has everything up to %s; %s",
				f.Slot, now.Decoded, before, now.ConfirmedFlush, known, missing)}
	case now.RestartLSN > known && (now.Decoded < 0 || before < 0 || before == 0):
		return &Finding{Code: SlotAhead, Gap: true, Next: accept,
			What: fmt.Sprintf("replication slot %s is at %s, ahead of the journal, which has everything up to %s: the slot was created again, another reader used it, or journal and control store are older copies; %s",
				f.Slot, now.ConfirmedFlush, known, missing)}
	}
	return &Finding{Code: SlotAhead, Gap: true, Next: accept + ", or restore the newer journal and control store",
		What: fmt.Sprintf("replication slot %s is at %s, ahead of the journal, which has everything up to %s: another reader has moved it (give that one a slot of its own), or journal and control store are older copies; %s",
			f.Slot, now.ConfirmedFlush, known, missing)}
}
