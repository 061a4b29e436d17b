package httpapi

import (
	"fmt"
	"maps"
	"slices"
)

// viewSet is what is served at one moment. It is never changed: a request that began with one set ends with it.
type viewSet struct {
	byName map[string]*View
	names  []string // in the order in which they came
}

// PutView serves a view from now on, instead of one of the same name.
func (s *Server) PutView(v *View) error {
	if v.Cache == nil && v.Search == nil {
		return fmt.Errorf("http: view %s is in no sink", v.name())
	}
	s.change(func(set *viewSet) {
		if _, held := set.byName[v.name()]; !held {
			set.names = append(set.names, v.name())
		}
		set.byName[v.name()] = v
	})
	return nil
}

// DropView serves a view no more. Requests that found it before are answered.
func (s *Server) DropView(name string) {
	s.change(func(set *viewSet) {
		delete(set.byName, name)
		set.names = slices.DeleteFunc(set.names, func(other string) bool { return other == name })
	})
}

// change serves a changed copy of the set.
func (s *Server) change(edit func(*viewSet)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &viewSet{byName: map[string]*View{}}
	if now := s.served.Load(); now != nil {
		set.byName, set.names = maps.Clone(now.byName), slices.Clone(now.names)
	}
	edit(set)
	s.served.Store(set)
}

// all lists the views in the order in which they came.
func (set *viewSet) all() []*View {
	views := make([]*View, len(set.names))
	for i, name := range set.names {
		views[i] = set.byName[name]
	}
	return views
}
