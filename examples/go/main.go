// A command: it reads its arguments, says hello, and ends.
package main

import (
	"fmt"
	"os"
)

func main() {
	name := "world"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	fmt.Printf("hello %s from Go\n", name)
}
