/* The extension module tracekit_hotpath. */

#include "hotpath.h"

static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "tracekit_hotpath", "tracekit's hooks, compiled.", -1, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_tracekit_hotpath(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || prepare_names() < 0 || (Thread_Type = add_type(module, &Thread_Spec)) == NULL ||
        (Hook_Type = add_type(module, &Hook_Spec)) == NULL || (Copies_Type = add_type(module, &Copies_Spec)) == NULL ||
        add_type(module, &Core_Spec) == NULL) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
