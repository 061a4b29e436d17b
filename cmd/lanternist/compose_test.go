package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/examples/shop"
)

// TestComposeFile loads compose.yaml as Docker Compose would, and the configuration that it mounts.
func TestComposeFile(t *testing.T) {
	env := []string{"POSTGRES_PASSWORD=p", "LANTERNIST_TOKEN=t"}
	options, err := cli.NewProjectOptions([]string{"../../compose.yaml"}, cli.WithEnv(env), cli.WithInterpolation(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "elasticsearch", "redis", "lanternist"} {
		s, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
		if s.Image == "" && s.Build == nil {
			t.Errorf("%s has neither image nor build", name)
		}
		if name != "lanternist" && len(s.Volumes) == 0 {
			t.Errorf("%s keeps nothing", name)
		}
	}
	if s, _ := project.GetService("postgres"); !slices.Contains(s.Command, "wal_level=logical") {
		t.Error("Postgres does not log what is needed")
	}
	if _, err := cli.NewProjectOptions([]string{"../../compose.yaml"}, cli.WithInterpolation(true)); err != nil {
		t.Fatal(err)
	}
}

// TestComposeConfiguration checks that the mounted configuration is one that Lanternist takes, for the whole shop.
func TestComposeConfiguration(t *testing.T) {
	env := map[string]string{"DATABASE_URL": "postgres://h/shop", "LANTERNIST_TOKEN": "t"}
	data := readFile(t, "../../examples/shop/compose/lanternist.yaml")
	cfg, err := config.Parse("../../examples/shop/lanternist.yaml", data, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Source.Tables, shop.Tables()) {
		t.Errorf("tables = %v", cfg.Source.Tables)
	}
	defs, err := parseViews(cfg)
	if err != nil || len(defs) != len(shop.Views()) {
		t.Errorf("%d views, want %d: %v", len(defs), len(shop.Views()), err)
	}
}

func TestStarterConfigurationIsValid(t *testing.T) {
	c := &initCmd{}
	text := c.configuration(nil)
	text = []byte(strings.Replace(string(text), "  tables:\n", "  tables:\n    - public.orders\n", 1))
	if _, err := config.Parse("lanternist.yaml", text, func(string) (string, bool) { return "postgres://h/db", true }); err != nil {
		t.Error(err)
	}
}
