// A WASI 0.1 module in Go: greets, and copies standard input or a file where it is told to.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "echo":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case len(args) == 2 && args[0] == "cat":
		text, err := os.ReadFile(args[1])
		fmt.Print(string(text))
		return err
	}
	fmt.Println("hello from Go, WASI 0.1")
	return nil
}
