package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sharedURL returns the URL of a service of the stack that all packages of this test run share. It starts
// the supervisor, and through it the service, when they do not run yet.
func sharedURL(ctx context.Context, req request, progress func(string)) (string, error) {
	owner, err := runOwner()
	if err != nil {
		return "", err
	}
	conn, err := dialSupervisor(ctx, "", owner)
	if err != nil {
		return "", fmt.Errorf("shared stack: %w", err)
	}
	return ask(ctx, conn, req, progress)
}

// ask sends a request to the supervisor, waits for its answer and closes the connection.
func ask(ctx context.Context, conn net.Conn, req request, progress func(string)) (string, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return "", fmt.Errorf("ask shared stack for %s: %w", req.Service, err)
	}
	answers := json.NewDecoder(conn)
	for {
		var a answer
		if err := answers.Decode(&a); err != nil {
			return "", fmt.Errorf("ask shared stack for %s: %w", req.Service, errors.Join(err, ctx.Err()))
		}
		switch {
		case a.URL != "":
			return a.URL, nil
		case a.Unavailable:
			return "", unavailable(a.Error)
		case a.Error != "":
			return "", errors.New(a.Error)
		default:
			progress(a.Progress)
		}
	}
}

// unavailable is ErrUnavailable as another process told it.
type unavailable string

func (e unavailable) Error() string        { return string(e) }
func (e unavailable) Is(target error) bool { return target == ErrUnavailable }

// dialSupervisor connects to the owner's supervisor and starts it if there is none. Two owners have two.
func dialSupervisor(ctx context.Context, base string, owner process) (net.Conn, error) {
	base, unlock, err := openBase(base)
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(base, "run-"+owner.String())
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", filepath.Join(dir, socketFile)); err == nil {
		return conn, nil
	}
	if err := sweep(base); err != nil { // also what a killed supervisor of this owner left
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make stack folder: %w", err)
	}
	if err := startSupervisor(supervision{Dir: dir, Owner: owner}); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(dir, socketFile))
	if err != nil {
		return nil, fmt.Errorf("reach supervisor: %w", err)
	}
	return conn, nil
}

// startSupervisor starts this binary again as a supervisor and returns when it listens. It shares nothing
// with us: not the session, and not the output, for which `go test` would wait.
func startSupervisor(s supervision) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	spec, err := json.Marshal(s)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, supervisorLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(binary)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = "/", log, []*os.File{writer}
	cmd.Env = append(os.Environ(), supervisorEnv+"="+string(spec))
	detach(cmd)
	err = cmd.Start()
	_ = writer.Close() // ours; the supervisor has its own
	if err != nil {
		return err
	}
	line, err := io.ReadAll(ready)
	if err != nil || !strings.HasSuffix(string(line), readyLine) {
		return errors.Join(errors.New("it ended before it was ready"), err, errors.New(tail(log.Name())), cmd.Wait())
	}
	return cmd.Process.Release()
}
