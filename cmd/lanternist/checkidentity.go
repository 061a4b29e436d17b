package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
)

// anythingStored says whether something may have run before. A control store that is gone does not mean that nothing has.
func anythingStored(cfg *config.Config) bool {
	if !cfg.Journal.URL.IsZero() || stateExists(cfg) {
		return true
	}
	for _, dir := range []string{cfg.Journal.Dir, cfg.Mirror.Dir} {
		if _, err := os.Stat(cfg.Path(dir)); err == nil {
			return true
		}
	}
	return false
}

// checkIdentity adds what is not as it was, when something has run before and no daemon runs now: that one compares by itself.
// What it says of the slot is more than what was found without it.
func checkIdentity(ctx context.Context, cfg *config.Config, problems []problem) []problem {
	if !anythingStored(cfg) {
		return problems
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report, err := examine(ctx, cfg)
	switch {
	case errors.Is(err, control.ErrLocked):
		return problems
	case err != nil && len(problems) > 0:
		return problems // the same, most probably
	case err != nil:
		return append(problems, problem{Where: "identity", What: err.Error(), Warning: true})
	}
	for _, f := range report.Findings {
		if strings.HasPrefix(string(f.Code), "slot-") {
			problems = slices.DeleteFunc(problems, func(p problem) bool { return slices.Contains(aboutIdentity, p.code) })
		}
		problems = append(problems, problem{Where: "identity", What: string(f.Code) + ": " + f.What, Fix: f.Next, Warning: f.Heals, code: string(f.Code)})
	}
	if report.Pending {
		problems = append(problems, problem{Where: "identity", What: "a gap was accepted and is not finished", Fix: "lanternist run", Warning: true})
	}
	return problems
}
