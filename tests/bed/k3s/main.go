// k3s-rendered BASE TEMPLATE: prints a template of containerd's configuration as k3s and RKE2 render it at each of their starts, with
// the file BASE for what it calls "base". Without a file TEMPLATE it prints BASE, as they do.
package main

import (
	"errors"
	"io"
	"io/fs"
	"log"
	"os"
	"text/template"
)

// node is what a template may ask about, of those things that people's templates do.
type node struct {
	SystemdCgroup, DisableCgroup, IsRunningInUserNS, EnableUnprivileged bool
	Program                                                             string
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("k3s-rendered BASE TEMPLATE")
	}
	if err := render(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func render(to io.Writer, basePath, path string) error {
	base, err := os.ReadFile(basePath)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = base
	} else if err != nil {
		return err
	}
	main, err := template.New("compiled_template").Parse(string(text))
	if err != nil {
		return err
	}
	if _, err := main.New("base").Parse(string(base)); err != nil {
		return err
	}
	return main.Execute(to, node{SystemdCgroup: true, EnableUnprivileged: true, Program: "k3s"})
}
