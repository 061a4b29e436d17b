package main

import (
	"log/slog"

	"github.com/lanternist/lanternist/config"
)

// configFlag is the one flag that every command with a configuration has.
type configFlag struct {
	File string `name:"config" short:"c" default:"lanternist.yaml" env:"LANTERNIST_CONFIG" help:"Configuration file." placeholder:"FILE"`
}

func (f configFlag) load() (*config.Config, error) {
	c, err := config.Load(f.File)
	if err != nil {
		return nil, badInput(err)
	}
	return c, nil
}

// connect reads the configuration and makes a client of its daemon, which need not be running.
func (f configFlag) connect() (*config.Config, *client, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	client, err := newClient(cfg)
	if err != nil {
		return nil, nil, badInput(err)
	}
	return cfg, client, nil
}

type configCmd struct {
	configFlag
}

// Run prints the configuration in force.
func (c *configCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	text, err := cfg.Masked()
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text)
	return err
}

// logger is the logger that the configuration asks for, on stderr.
func (a *app) logger(cfg config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // the configuration was checked; a demo may have none
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// quiet is a logger that says nothing: for commands that print what they find.
var quiet = slog.New(slog.DiscardHandler)
