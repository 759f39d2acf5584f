package kubelet

import (
	"errors"
	"fmt"
	"strings"
)

// Image is what stands for a container image: a directory of programs.
type Image struct {
	// Dir is the directory; its programs are on the container's PATH, and in its root directory.
	Dir string
	// Entrypoint is what runs when the Pod gives no command.
	Entrypoint []string
	// User is the user that runs the container unless the Pod says otherwise.
	User int
}

// Resolver finds the image of a name such as "herald:v1.2.3". An error makes the container wait with ErrImagePull.
type Resolver func(name string) (Image, error)

var errNoImage = errors.New("no such image in the laboratory")

// Images resolves names by the last part of their path, without tag and digest: "registry.example/x/herald:v1" is found
// under "herald". A name with a slash in it, such as "lab/web", must fit whole.
func Images(images map[string]Image) Resolver {
	return func(name string) (Image, error) {
		repository := repositoryOf(name)
		if image, ok := images[repository]; ok {
			return image, nil
		}
		if i := strings.LastIndexByte(repository, '/'); i >= 0 {
			if image, ok := images[repository[i+1:]]; ok {
				return image, nil
			}
		}
		return Image{}, fmt.Errorf("%w: %q; it has %s", errNoImage, name, strings.Join(sortedKeys(images), ", "))
	}
}

// repositoryOf cuts tag and digest off an image's name.
func repositoryOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}
