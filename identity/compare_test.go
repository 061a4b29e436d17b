package identity_test

import (
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/identity"
)

// facts are those of a deployment in order, which a case then changes.
func facts() *identity.Facts {
	return &identity.Facts{
		Record: &identity.Record{
			Source:  identity.Source{SystemID: "7", Timeline: 2, Database: "shop", DatabaseOID: 16, Publication: "pub", PublicationOID: 40, PublicationOwner: "o"},
			Slot:    identity.Slot{Name: "slot", Created: 50, Decoded: 10},
			Journal: identity.Journal{ID: "j", Head: event.NewOffset(9, 3)}, Mirror: "m",
		},
		Slot: "slot", Publication: "pub", Acknowledged: 1000,
		Journal: identity.JournalFacts{ID: "j", Where: "data/journal", Head: event.NewOffset(9, 3), CommitLSN: 890, EndLSN: 900},
		Mirror:  identity.MirrorFacts{ID: "m", Journal: "j", Where: "data/mirror", Offset: event.NewOffset(9, 3)},
		Source: &cdc.State{SystemID: "7", Timeline: 2, Database: "shop", DatabaseOID: 16, ServerVersion: 170005, Flush: 2000,
			History: []cdc.Switch{{Timeline: 1, End: 40}}, Publication: &cdc.PublicationID{OID: 40, Owner: "o"},
			Slot: &cdc.Slot{Name: "slot", ConfirmedFlush: 1000, RestartLSN: 800, Decoded: 12, WALStatus: "reserved"}},
	}
}

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*identity.Facts)
		want   string // codes
		says   string
	}{
		"in order":                         {func(*identity.Facts) {}, "", ""},
		"nothing yet":                      {func(f *identity.Facts) { *f = identity.Facts{Slot: "slot", Source: f.Source} }, "", ""},
		"an older version":                 {func(f *identity.Facts) { f.Record, f.Early = nil, "7/shop" }, "", ""},
		"an older version, another source": {func(f *identity.Facts) { f.Record, f.Early = nil, "8/shop" }, "source-other-system", "8/shop"},
		"no control store":                 {func(f *identity.Facts) { f.Record = nil }, "control-lost", "data/journal goes up to 9.3"},
		"only a mirror":                    {func(f *identity.Facts) { f.Record, f.Journal = nil, identity.JournalFacts{} }, "control-lost", "data/mirror"},
		"other system":                     {func(f *identity.Facts) { f.Source.SystemID = "8" }, "source-other-system", "system 8"},
		"database created again":           {func(f *identity.Facts) { f.Source.DatabaseOID = 17 }, "source-other-database", "OID 17"},
		"older copy of the source":         {func(f *identity.Facts) { f.Source.Flush = 950 }, "source-went-back", "from 0/3B6 to 0/3E8"},
		"restored to before": {func(f *identity.Facts) {
			f.Source.Timeline, f.Source.History = 3, []cdc.Switch{{Timeline: 1, End: 40}, {Timeline: 2, End: 880}}
		}, "source-diverged", "from 0/370 to 0/37A"},
		"restored from before the timeline": {func(f *identity.Facts) { f.Source.Timeline, f.Source.History = 3, []cdc.Switch{{Timeline: 1, End: 40}} }, "source-diverged", "does not have timeline 2"},
		"promoted": {func(f *identity.Facts) {
			f.Source.Timeline, f.Source.History = 3, []cdc.Switch{{Timeline: 1, End: 40}, {Timeline: 2, End: 1500}}
		}, "source-promoted", "0/5DC"},
		"promoted, idle positions ahead": {func(f *identity.Facts) {
			f.Source.Timeline, f.Source.History = 3, []cdc.Switch{{Timeline: 2, End: 950}}
			f.Source.Slot.ConfirmedFlush = 940
		}, "source-promoted", ""},
		"promoted without the slot": {func(f *identity.Facts) {
			f.Source.Timeline, f.Source.History, f.Source.Slot = 3, []cdc.Switch{{Timeline: 2, End: 1500}}, nil
		}, "source-promoted slot-missing", "0/3E8"},
		"slot dropped":     {func(f *identity.Facts) { f.Source.Slot = nil }, "slot-missing", "up to 0/3E8"},
		"slot lost":        {func(f *identity.Facts) { f.Source.Slot.WALStatus = "lost" }, "slot-lost", "from 0/3E8 to 0/7D0"},
		"slot invalidated": {func(f *identity.Facts) { f.Source.Slot.Invalidation = "idle_timeout" }, "slot-lost", "idle_timeout"},
		"slot recreated": {func(f *identity.Facts) {
			f.Source.Slot.ConfirmedFlush, f.Source.Slot.RestartLSN, f.Source.Slot.Decoded = 1200, 1190, 0
		}, "slot-recreated", "from 0/3E8 to 0/4B0"},
		"slot moved":     {func(f *identity.Facts) { f.Source.Slot.ConfirmedFlush = 1200 }, "slot-ahead", "another reader has moved it"},
		"slot moved far": {func(f *identity.Facts) { f.Source.Slot.ConfirmedFlush, f.Source.Slot.RestartLSN = 1200, 1190 }, "slot-ahead", "another reader has moved it"},
		"slot moved or recreated": {func(f *identity.Facts) {
			f.Source.Slot.ConfirmedFlush, f.Source.Slot.RestartLSN, f.Source.Slot.Decoded = 1200, 1190, -1
		}, "slot-ahead", "was created again, another reader used it"},
		"slot behind":                       {func(f *identity.Facts) { f.Source.Slot.ConfirmedFlush = 700 }, "slot-behind", "skipped"},
		"publication dropped":               {func(f *identity.Facts) { f.Source.Publication = nil }, "publication-missing", "OID 40"},
		"publication again":                 {func(f *identity.Facts) { f.Source.Publication.OID = 41 }, "publication-recreated", "OID 41, was 40"},
		"publication's owner":               {func(f *identity.Facts) { f.Source.Publication.Owner = "x" }, "publication-owner", `"x"`},
		"another publication is configured": {func(f *identity.Facts) { f.Publication, f.Source.Publication.OID = "other", 50 }, "", ""},
		"journal gone":                      {func(f *identity.Facts) { f.Journal = identity.JournalFacts{Where: "data/journal"} }, "journal-lost", "9.3"},
		"journal older": {func(f *identity.Facts) {
			f.Journal.Head, f.Journal.CommitLSN, f.Journal.EndLSN = event.NewOffset(5, 0), 500, 510
		}, "journal-older", "from 5.0 to 9.3"},
		"journal older than the mirror": {func(f *identity.Facts) {
			f.Record.Journal.Head, f.Mirror.Offset = event.NewOffset(8, 0), event.NewOffset(11, 0)
		}, "journal-older", "from 9.3 to 11.0"},
		"journal of another":        {func(f *identity.Facts) { f.Journal.ID, f.Mirror.Journal = "k", "k" }, "journal-other", "accept-gap"},
		"stream of another":         {func(f *identity.Facts) { f.Journal.ID, f.Mirror.Journal, f.Journal.Shared = "k", "k", true }, "journal-other", "own stream"},
		"mirror gone":               {func(f *identity.Facts) { f.Mirror = identity.MirrorFacts{Where: "data/mirror"} }, "mirror-lost", "loaded again"},
		"mirror of another journal": {func(f *identity.Facts) { f.Mirror.Journal = "k" }, "mirror-other", "rm -r data/mirror"},
		"another mirror":            {func(f *identity.Facts) { f.Mirror.ID = "n" }, "mirror-other", "rm -r data/mirror"},
		"mirror older":              {func(f *identity.Facts) { f.Mirror.Offset = event.NewOffset(2, 0) }, "", ""},
		"source not asked":          {func(f *identity.Facts) { f.Source, f.Mirror.Journal = nil, "k" }, "mirror-other", ""},
		"several":                   {func(f *identity.Facts) { f.Source.Slot, f.Source.Publication = nil, nil }, "slot-missing publication-missing", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			c.change(f)
			found := identity.Compare(f)
			var codes []string
			for _, one := range found {
				codes = append(codes, string(one.Code))
				if one.What == "" || one.Next == "" || one.Heals && (one.Gap || !strings.HasPrefix(one.Next, "nothing: ")) || one.Anew && !one.Gap {
					t.Errorf("%+v", one)
				}
				if one.Gap && !strings.Contains(one.Next, identity.AcceptCommand) {
					t.Errorf("%s has no command: %s", one.Code, one.Next)
				}
			}
			if got := strings.Join(codes, " "); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			text := ""
			for _, one := range found {
				text += one.Error() + "\n"
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("%q does not say %q", text, c.says)
			}
		})
	}
}

func TestTakeRemembersWhereATimelineWasLeft(t *testing.T) {
	f := facts()
	r := f.Record
	r.Take(f.Source)
	now := *f.Source
	now.Timeline, now.History = 3, []cdc.Switch{{Timeline: 1, End: 40}, {Timeline: 2, End: 1500}}
	r.Take(&now)
	again := now
	again.Timeline, again.History = 4, append(now.History, cdc.Switch{Timeline: 3, End: 1700})
	r.Take(&again)
	want := map[string]pglogrepl.LSN{"7-2": 1500, "7-3": 1700}
	if len(r.Epochs) != len(want) || r.Epochs["7-2"] != 1500 || r.Epochs["7-3"] != 1700 || r.Source.Epoch() != "7-4" {
		t.Errorf("epochs %v, now %s; want %v", r.Epochs, r.Source.Epoch(), want)
	}
	if len(r.Deployments) != 1 || r.Deployments[0] != "7/shop/slot" {
		t.Errorf("deployments %v", r.Deployments)
	}
	other := *f.Source
	other.SystemID = "9"
	r.Take(&other)
	if len(r.Deployments) != 2 || r.Deployments[0] != "9/shop/slot" || r.Deployments[1] != "7/shop/slot" {
		t.Errorf("deployments %v", r.Deployments)
	}
}
