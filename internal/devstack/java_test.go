package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeJava makes a Java home whose java says what it is told to.
func fakeJava(t *testing.T, says string, exit int) string {
	t.Helper()
	home := openFolder(t)
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\ncat >&2 <<'END'\n%s\nEND\nexit %d\n", says, exit)
	if err := os.WriteFile(filepath.Join(home, "bin", "java"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

func TestJavaIsTheFirstThatIsNewEnough(t *testing.T) {
	acc, err := serviceAccount()
	if err != nil {
		t.Fatal(err)
	}
	eight := fakeJava(t, `java version "1.8.0_392"`, 0)
	eleven := fakeJava(t, `openjdk version "11.0.2" 2019-01-15`, 0)
	early := fakeJava(t, `openjdk version "26-ea" 2026-03-17`, 0)
	seventeen := fakeJava(t, "Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version \"17.0.15\" 2025-04-15", 0)
	broken := fakeJava(t, "no such library", 127)
	for _, c := range []struct{ esJavaHome, javaHome, path, want string }{
		{seventeen, early, "", seventeen},
		{"", early, seventeen, early},
		{eight, eleven, seventeen, seventeen},
		{broken, seventeen, "", seventeen},
		{eight, broken, "", ""},
		{"", "", "", ""},
	} {
		t.Setenv("ES_JAVA_HOME", c.esJavaHome)
		t.Setenv("JAVA_HOME", c.javaHome)
		t.Setenv("PATH", "/usr/bin-without-java:/bin-without-java")
		if c.path != "" {
			t.Setenv("PATH", filepath.Join(c.path, "bin")+":/bin")
		} else {
			t.Setenv("PATH", pathWithout(t, "java"))
		}
		got, err := javaHome(t.Context(), acc)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, error %v", c, got, err)
		}
		if c.esJavaHome == eight && c.want == "" && !strings.Contains(err.Error(), "version 1, 17 or later") {
			t.Errorf("error does not say why: %v", err)
		}
	}
}

// pathWithout returns a PATH with the shell's tools but not the named one.
func pathWithout(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"sh", "cat"} {
		for _, bin := range []string{"/bin/", "/usr/bin/"} {
			if _, err := os.Stat(bin + tool); err == nil {
				if err := os.Symlink(bin+tool, filepath.Join(dir, tool)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
		t.Fatalf("%s is on the path", name)
	}
	return dir
}
