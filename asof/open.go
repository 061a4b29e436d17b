package asof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/projectors"
)

// Open reads which views there are and returns those that are whole. What a crash left of others is removed by Run. It asks no
// sink.
func (s *Service) Open(ctx context.Context) ([]*View, error) {
	if err := os.RemoveAll(s.cfg.Dir); err != nil {
		return nil, fmt.Errorf("remove restored tables: %w", err)
	}
	records, err := Records(ctx, s.Control)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.State != Ready {
			s.mu.Lock()
			s.unclean = append(s.unclean, r)
			s.mu.Unlock()
			continue
		}
		v, err := s.assemble(r)
		if err != nil {
			// The others, and the configuration's views, have nothing to do with it.
			s.log.Error("view as of a moment cannot be read", "name", r.Name, "error", err, "hint", "lanternist rebuild --drop "+r.Name)
			continue
		}
		s.mu.Lock()
		s.views[r.Name] = v
		s.mu.Unlock()
	}
	return s.All(), nil
}

// assemble is the view of a record.
func (s *Service) assemble(r Record) (*View, error) {
	v := &View{Record: r}
	var err error
	if v.Definition, err = r.compile(s.Schemas); err != nil {
		return nil, err
	}
	v.Stores, err = s.Stores(v.Definition)
	return v, err
}

// Run removes what a crash left, as soon as the sinks let it, and then waits for the end of the context, whose cause it
// returns.
func (s *Service) Run(ctx context.Context) error {
	waits := backoff.New(s.cfg.Backoff)
	for {
		err := s.CleanUp(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		s.log.Warn("what is left of a view cannot be removed yet", "error", err)
		if err := waits.Wait(ctx); err != nil {
			return context.Cause(ctx)
		}
	}
}

// CleanUp removes what a crash left.
func (s *Service) CleanUp(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.over()
	s.mu.Lock()
	left := slices.Clone(s.unclean)
	s.mu.Unlock()
	var errs []error
	for _, r := range left {
		v, err := s.assemble(r)
		if err == nil {
			err = s.erase(ctx, v)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.log.Warn("half-made view removed", "name", r.Name, "view", r.View, "at", r.At, "state", r.State)
		s.mu.Lock()
		s.unclean = slices.DeleteFunc(s.unclean, func(other Record) bool { return other.Name == r.Name })
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Drop removes a view from its sinks, and forgets it. From its beginning the view is not shown any more: before it calls
// hide, which may be nil, it is; should it not come to its end, the next start goes on.
func (s *Service) Drop(ctx context.Context, name string, hide func()) error {
	select {
	case s.making <- struct{}{}:
		defer s.over()
	default:
		return ErrBusy
	}
	records, err := Records(ctx, s.Control)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(r Record) bool { return r.Name == name })
	if i < 0 {
		return fmt.Errorf("%w: %s%s", ErrUnknown, name, listed(records))
	}
	v, ok := s.View(name)
	if !ok {
		if v, err = s.assemble(records[i]); err != nil {
			return err
		}
	}
	v = &View{Record: v.Record, Definition: v.Definition, Stores: v.Stores}
	v.State = Dropping
	if err := s.save(ctx, &v.Record); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.views, name)
	s.mu.Unlock()
	if hide != nil {
		hide()
	}
	faultpoint.Hit("asof", "dropping")
	if err := s.erase(ctx, v); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unclean = append(slices.DeleteFunc(s.unclean, func(r Record) bool { return r.Name == name }), v.Record)
		return fmt.Errorf("%w; what is left is removed at the next start", err)
	}
	s.log.Info("view as of a moment removed", "name", name)
	return nil
}

// listed names the views that there are.
func listed(records []Record) string {
	if len(records) == 0 {
		return "; there are none"
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	return "; there are: " + strings.Join(names, ", ")
}

// erase removes a view from its sinks, and then its record.
func (s *Service) erase(ctx context.Context, v *View) error {
	for _, sink := range v.Sinks {
		store, ok := v.Stores[sink]
		if !ok {
			return fmt.Errorf("remove view %s: the configuration has no %s sink any more", v.Name, sink)
		}
		if err := projectors.Erase(ctx, ProjectorName(v.Name, sink), store, s.Letters); err != nil {
			return err
		}
	}
	faultpoint.Hit("asof", "erased")
	if err := s.Control.Delete(ctx, v.key()); err != nil {
		return fmt.Errorf("forget view %s: %w", v.Name, err)
	}
	return nil
}
