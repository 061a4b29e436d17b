package plan

import (
	"cmp"
	"slices"
	"strings"
)

// Action is what is done to a part of the deployment.
type Action string

// The actions.
const (
	Add     Action = "add"     // a table is captured and loaded, an index is built, a view is built for the first time
	Rebuild Action = "rebuild" // a view is built by another definition, while readers see the documents of the present one
	Remove  Action = "remove"  // a table is no longer captured, an index is dropped, a view is retired
)

// Plan is what has to be done. Each list is in the order in which it is carried out.
type Plan struct {
	Tables  []TableChange `json:"tables"`
	Indexes []IndexChange `json:"indexes"`
	Views   []ViewChange  `json:"views"`
	// Restart lists the settings that differ and cannot change while the daemon runs. All else does not wait for them.
	Restart []SettingChange `json:"restart"`
	// KeepData says that the documents of views that are removed stay in the sinks.
	KeepData bool `json:"keep_data"`
}

// TableChange is a table that is captured from now on, or no longer.
type TableChange struct {
	Table
	Action Action `json:"action" enum:"add,remove"`
	// Views depend on it: of an added table those that wait for its load, of a removed one those whose present documents are made
	// of it: it goes when they have been built anew or retired.
	Views []string `json:"views,omitempty"`
}

// IndexChange is an index of the mirror that is built or dropped.
type IndexChange struct {
	Index
	Table  string `json:"table"`
	Action Action `json:"action" enum:"add,remove"`
	Rows   int64  `json:"rows" doc:"About how many rows are scanned to build it; -1 when that is not known."`
}

// ViewChange is a view that is built, built anew, or retired, in at least one sink.
type ViewChange struct {
	View string `json:"view"`
	// Action is that of all sinks when they agree, else Rebuild: what is done in each is in Sinks.
	Action Action       `json:"action" enum:"add,rebuild,remove"`
	Sinks  []SinkChange `json:"sinks"`
	// Rows is about how many documents are composed, in each sink that is built; -1 when that is not known.
	Rows int64 `json:"rows"`
	// Changes are the differences of the definitions.
	Changes []Edit `json:"changes,omitempty"`
}

// SinkChange is what is done to a view in one sink.
type SinkChange struct {
	Projector string `json:"projector"`
	Sink      string `json:"sink"`
	Action    Action `json:"action" enum:"add,rebuild,remove"`
	Reason    string `json:"reason"`
	// Generations are deleted from the sink, when the view is removed and its data is not kept.
	Generations []int `json:"generations,omitempty"`
}

// SettingChange is a setting that a restart is needed for.
type SettingChange struct {
	Name       string `json:"name"`
	Deployed   string `json:"deployed"`
	Configured string `json:"configured"`
}

// Options say how far a plan goes.
type Options struct {
	KeepData bool // the documents of views that are removed stay in the sinks
}

// Empty says that nothing has to be done. Settings that wait for a restart are not counted.
func (p *Plan) Empty() bool {
	return len(p.Tables) == 0 && len(p.Indexes) == 0 && len(p.Views) == 0
}

// New compares what is deployed with what is wanted.
func New(deployed, wanted *Deployment, o Options) *Plan {
	p := &Plan{KeepData: o.KeepData, Tables: []TableChange{}, Indexes: []IndexChange{}, Views: []ViewChange{}, Restart: []SettingChange{}}
	p.tables(deployed, wanted)
	p.indexes(deployed, wanted)
	p.views(deployed, wanted)
	p.restart(deployed, wanted)
	return p
}

func (p *Plan) tables(deployed, wanted *Deployment) {
	for _, t := range sorted(wanted.Tables) {
		if _, held := deployed.table(t.OID); !held {
			p.Tables = append(p.Tables, TableChange{Table: t, Action: Add, Views: wanted.viewsOf(t.OID)})
		}
	}
	for _, t := range sorted(deployed.Tables) {
		if _, still := wanted.table(t.OID); !still {
			p.Tables = append(p.Tables, TableChange{Table: t, Action: Remove, Views: deployed.viewsOf(t.OID)})
		}
	}
}

func sorted(tables []Table) []Table {
	return slices.SortedFunc(slices.Values(tables), func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
}

func (p *Plan) indexes(deployed, wanted *Deployment) {
	have, want := deployed.indexes(), wanted.indexes()
	for _, ix := range want {
		if !contains(have, ix) {
			t, _ := wanted.table(ix.OID)
			p.Indexes = append(p.Indexes, IndexChange{Index: ix, Table: t.Name, Action: Add, Rows: t.Rows})
		}
	}
	for _, ix := range have {
		if !contains(want, ix) {
			t, _ := deployed.table(ix.OID)
			p.Indexes = append(p.Indexes, IndexChange{Index: ix, Table: t.Name, Action: Remove, Rows: -1})
		}
	}
}

func contains(list []Index, ix Index) bool {
	return slices.ContainsFunc(list, func(other Index) bool { return ix.compare(other) == 0 })
}

func (p *Plan) views(deployed, wanted *Deployment) {
	var added, changed, removed []ViewChange
	for _, name := range viewNames(deployed, wanted) {
		c := p.view(name, deployed, wanted)
		switch {
		case len(c.Sinks) == 0:
		case c.Action == Add:
			added = append(added, c)
		case c.Action == Remove:
			removed = append(removed, c)
		default:
			changed = append(changed, c)
		}
	}
	p.Views = slices.Concat(p.Views, added, changed, removed)
}

// viewNames lists the views of both, each once, sorted.
func viewNames(deployments ...*Deployment) []string {
	var names []string
	for _, d := range deployments {
		for _, projector := range d.Projectors {
			names = append(names, projector.View)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// view is what happens to one view; without sinks when nothing does.
func (p *Plan) view(name string, deployed, wanted *Deployment) ViewChange {
	c := ViewChange{View: name, Rows: -1}
	was, is := ofView(deployed, name), ofView(wanted, name)
	if len(is) > 0 {
		t, _ := wanted.table(is[0].Root)
		c.Rows = t.Rows
	}
	for _, next := range is {
		now, held := deployed.projector(next.Name)
		switch {
		case !held && len(was) == 0:
			c.Sinks = append(c.Sinks, SinkChange{Projector: next.Name, Sink: next.Sink, Action: Add, Reason: "the view is new"})
		case !held:
			c.Sinks = append(c.Sinks, SinkChange{Projector: next.Name, Sink: next.Sink, Action: Add, Reason: "the view is new in this sink"})
			c.note(Differences(was[0].Outline, next.Outline))
		case now.Hash != next.Hash:
			differences := Differences(now.Outline, next.Outline)
			reason := "the definition has changed"
			if len(differences) == 0 {
				reason = "documents are composed in another way than when they were built"
			}
			c.Sinks = append(c.Sinks, SinkChange{Projector: next.Name, Sink: next.Sink, Action: Rebuild, Reason: reason})
			c.note(differences)
		case !slices.Equal(now.Tables, next.Tables):
			c.Sinks = append(c.Sinks, SinkChange{Projector: next.Name, Sink: next.Sink, Action: Rebuild, Reason: "a table of the view was dropped and made anew"})
		}
	}
	for _, now := range was {
		if _, still := wanted.projector(now.Name); still {
			continue
		}
		s := SinkChange{Projector: now.Name, Sink: now.Sink, Action: Remove, Reason: "the view is gone"}
		if len(is) > 0 {
			s.Reason = "the view is no longer in this sink"
		}
		if !p.KeepData {
			s.Generations = now.Generations
		}
		c.Sinks = append(c.Sinks, s)
	}
	for i, s := range c.Sinks {
		if i > 0 && s.Action != c.Action {
			c.Action = Rebuild
			break
		}
		c.Action = s.Action
	}
	return c
}

// note keeps the first differences that were found: all sinks are built by one definition.
func (c *ViewChange) note(differences []Edit) {
	if len(c.Changes) == 0 {
		c.Changes = differences
	}
}

// ofView lists a view's projectors by sink.
func ofView(d *Deployment, view string) []Projector {
	var all []Projector
	for _, p := range d.Projectors {
		if p.View == view {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Projector) int { return strings.Compare(a.Sink, b.Sink) })
	return all
}

func (p *Plan) restart(deployed, wanted *Deployment) {
	if len(deployed.Settings) == 0 {
		return // nothing runs: whatever is configured is in force at the start
	}
	was := map[string]string{}
	for _, s := range deployed.Settings {
		was[s.Name] = s.Value
	}
	for _, s := range wanted.Settings {
		if was[s.Name] != s.Value {
			p.Restart = append(p.Restart, SettingChange{Name: s.Name, Deployed: was[s.Name], Configured: s.Value})
		}
		delete(was, s.Name)
	}
	for name, value := range was {
		p.Restart = append(p.Restart, SettingChange{Name: name, Deployed: value})
	}
	slices.SortFunc(p.Restart, func(a, b SettingChange) int { return cmp.Compare(a.Name, b.Name) })
}
