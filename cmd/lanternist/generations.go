package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/lanternist/lanternist/projectors"
)

// generationsAnswer is what the API says of a view's generations.
type generationsAnswer struct {
	View  string                                   `json:"view"`
	Sinks map[string][]projectors.GenerationStatus `json:"sinks"`
}

// list prints the generations that the sinks hold, as the daemon knows them.
func (c *rebuildCmd) list(a *app, client *client) error {
	var answer generationsAnswer
	err := client.get(a.ctx, "/v1/views/"+url.PathEscape(c.View)+"/generations", nil, &answer)
	switch {
	case errors.Is(err, errNoDaemon):
		return fmt.Errorf("%w; start it with: lanternist run --config %s", err, c.File)
	case err != nil:
		return err
	case c.JSON:
		return printJSON(a.stdout, answer)
	}
	var rows [][]string
	notes := ""
	for _, sink := range slices.Sorted(maps.Keys(answer.Sinks)) {
		for _, g := range answer.Sinks[sink] {
			rows = append(rows, []string{sink, fmt.Sprintf("g%d", g.Number), state(g), g.Created.Local().Format(time.DateTime),
				definition(g), g.Offset.String(), g.LSN})
			if g.Refusal != "" {
				notes += fmt.Sprintf("\n%s: generation %d cannot be gone back to: it %s\n", sink, g.Number, g.Refusal)
			}
		}
	}
	err = table(a.stdout, []string{"SINK", "GEN", "STATE", "CREATED", "DEFINITION", "OFFSET", "LSN"}, rows)
	fmt.Fprint(a.stdout, notes)
	return err
}

func state(g projectors.GenerationStatus) string {
	switch {
	case g.Live:
		return "live"
	case g.Refusal == "":
		return "kept for rollback"
	}
	return "kept"
}

func definition(g projectors.GenerationStatus) string {
	if g.Current {
		return "present"
	}
	return "another"
}
