package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// defaultMode is that of projected files when neither the volume nor the item says.
const defaultMode = 0o644

// errUnsupported marks what a Pod asks for and the laboratory cannot give.
var errUnsupported = errors.New("the laboratory does not support this")

// volumes prepares a Pod's volumes as directories on the machine.
type volumes struct {
	dir    string // directory of this Pod's volumes
	hostFS string // what the node's hostPath volumes are taken from
	pod    *corev1.Pod
	at     placement
	src    sources
	token  func(ctx context.Context, p *corev1.ServiceAccountTokenProjection) (token string, expires time.Time, err error)
	group  int // fsGroup, or -1

	renew time.Time // when a token wants to be replaced; zero if there is none
}

// prepare writes all volumes, or brings them up to date. It is called when the Pod starts, when an object that a volume
// shows has changed, and when a token gets old.
func (v *volumes) prepare(ctx context.Context) error {
	v.renew = time.Time{}
	for i := range v.pod.Spec.Volumes {
		volume := &v.pod.Spec.Volumes[i]
		if err := v.prepareOne(ctx, volume); err != nil {
			return fmt.Errorf("volume %q: %w", volume.Name, err)
		}
	}
	return nil
}

func (v *volumes) prepareOne(ctx context.Context, volume *corev1.Volume) error {
	if volume.HostPath != nil {
		return v.prepareHostPath(volume.HostPath)
	}
	dir := v.path(volume)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if volume.EmptyDir != nil {
		return v.own(dir, 0o777)
	}
	files, err := v.files(ctx, volume)
	if err != nil {
		return err
	}
	_, err = writeProjected(dir, files, v.group)
	return err
}

// own gives a directory its mode, and to fsGroup if there is one.
func (v *volumes) own(dir string, mode fs.FileMode) error {
	if v.group >= 0 {
		if err := os.Chown(dir, -1, v.group); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

// path returns where a volume lies on the machine.
func (v *volumes) path(volume *corev1.Volume) string {
	if volume.HostPath != nil {
		return v.hostPath(volume.HostPath.Path)
	}
	return filepath.Join(v.dir, volume.Name)
}

// hostPath maps a path on the node to one on the machine: all nodes share the machine, so each has a directory of its
// own that stands for its root. What belongs to the kernel is the machine's.
func (v *volumes) hostPath(path string) string {
	clean := filepath.Clean("/" + path)
	for _, kernel := range []string{"/proc", "/sys", "/dev", "/lib/modules"} {
		if clean == kernel || len(clean) > len(kernel) && clean[:len(kernel)+1] == kernel+"/" {
			return clean
		}
	}
	return filepath.Join(v.hostFS, clean)
}

// prepareHostPath does what hostPath's type asks for (core/v1 HostPathType).
func (v *volumes) prepareHostPath(source *corev1.HostPathVolumeSource) error {
	path := v.hostPath(source.Path)
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	switch kind {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(path, 0o755)
	case corev1.HostPathFileOrCreate:
		return mountPoint(path, false)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", source.Path, kind)
	}
	return nil
}

// files returns what a volume of generated files holds.
func (v *volumes) files(ctx context.Context, volume *corev1.Volume) (map[string]file, error) {
	files := map[string]file{}
	switch {
	case volume.Secret != nil:
		s := volume.Secret
		data, err := v.src.secret(s.SecretName)
		return files, addKeys(files, data, err, "secret "+s.SecretName, s.Items, s.DefaultMode, s.Optional)
	case volume.ConfigMap != nil:
		c := volume.ConfigMap
		data, err := v.src.configMap(c.Name)
		return files, addKeys(files, data, err, "configmap "+c.Name, c.Items, c.DefaultMode, c.Optional)
	case volume.DownwardAPI != nil:
		return files, v.addFields(files, volume.DownwardAPI.Items, volume.DownwardAPI.DefaultMode)
	case volume.Projected != nil:
		for i := range volume.Projected.Sources {
			if err := v.addProjection(ctx, files, &volume.Projected.Sources[i], volume.Projected.DefaultMode); err != nil {
				return nil, err
			}
		}
		return files, nil
	}
	return nil, errUnsupported
}

func (v *volumes) addProjection(ctx context.Context, files map[string]file, p *corev1.VolumeProjection, mode *int32) error {
	switch {
	case p.Secret != nil:
		data, err := v.src.secret(p.Secret.Name)
		return addKeys(files, data, err, "secret "+p.Secret.Name, p.Secret.Items, mode, p.Secret.Optional)
	case p.ConfigMap != nil:
		data, err := v.src.configMap(p.ConfigMap.Name)
		return addKeys(files, data, err, "configmap "+p.ConfigMap.Name, p.ConfigMap.Items, mode, p.ConfigMap.Optional)
	case p.DownwardAPI != nil:
		return v.addFields(files, p.DownwardAPI.Items, mode)
	case p.ServiceAccountToken != nil:
		return v.addToken(ctx, files, p.ServiceAccountToken, mode)
	}
	return errUnsupported
}

func (v *volumes) addToken(ctx context.Context, files map[string]file, p *corev1.ServiceAccountTokenProjection, mode *int32) error {
	token, expires, err := v.token(ctx, p)
	if err != nil {
		return err
	}
	files[p.Path] = file{data: []byte(token), mode: modeOf(nil, mode)}
	// A token is replaced when four fifths of its time have passed, as on a real node.
	renew := time.Now().Add(time.Until(expires) * 4 / 5)
	if v.renew.IsZero() || renew.Before(v.renew) {
		v.renew = renew
	}
	return nil
}

func (v *volumes) addFields(files map[string]file, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		if item.FieldRef == nil {
			return fmt.Errorf("%s: resourceFieldRef in a volume: %w", item.Path, errUnsupported)
		}
		text, err := field(v.pod, item.FieldRef.FieldPath, v.at)
		if err != nil {
			return err
		}
		files[item.Path] = file{data: []byte(text), mode: modeOf(item.Mode, mode)}
	}
	return nil
}

// addKeys adds the keys of a Secret or ConfigMap: all of them, or the items asked for.
func addKeys(files map[string]file, data map[string][]byte, err error, what string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	if err != nil {
		return err
	}
	maybe := optional != nil && *optional
	if data == nil && !maybe {
		return fmt.Errorf("%s not found", what)
	}
	if items == nil {
		for key, value := range data {
			files[key] = file{data: value, mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok && !maybe {
			return fmt.Errorf("references non-existent key %q of %s", item.Key, what)
		}
		if ok {
			files[item.Path] = file{data: value, mode: modeOf(item.Mode, mode)}
		}
	}
	return nil
}

func modeOf(own, volume *int32) fs.FileMode {
	for _, m := range []*int32{own, volume} {
		if m != nil {
			return fs.FileMode(*m).Perm()
		}
	}
	return defaultMode
}

// mounts returns a container's volume mounts. A missing subPath becomes a directory.
func (v *volumes) mounts(c *corev1.Container, env []string) ([]bindMount, error) {
	byName := map[string]*corev1.Volume{}
	for i := range v.pod.Spec.Volumes {
		byName[v.pod.Spec.Volumes[i].Name] = &v.pod.Spec.Volumes[i]
	}
	var list []bindMount
	for _, m := range c.VolumeMounts {
		volume := byName[m.Name]
		if volume == nil {
			return nil, fmt.Errorf("container %s mounts volume %q, which the Pod does not have", c.Name, m.Name)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expandAll([]string{m.SubPathExpr}, env)[0]
		}
		source := filepath.Join(v.path(volume), filepath.Clean("/"+sub))
		if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(source, 0o755); err != nil {
				return nil, err
			}
		}
		generated := volume.EmptyDir == nil && volume.HostPath == nil
		list = append(list, bindMount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly || generated})
	}
	return list, nil
}
