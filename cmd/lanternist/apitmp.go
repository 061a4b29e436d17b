package main

import "context"

type api struct{}

func newAPI(n *daemon) (*api, error)        { return &api{}, nil }
func (a *api) Run(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }

type initCmd struct{}
type statusCmd struct{}
type rebuildCmd struct{}
type deadlettersCmd struct{}
type journalCmd struct{}

func (initCmd) Run() error        { return nil }
func (statusCmd) Run() error      { return nil }
func (rebuildCmd) Run() error     { return nil }
func (deadlettersCmd) Run() error { return nil }
func (journalCmd) Run() error     { return nil }
