"Projects to send, for the tests of this folder"
from tests.support.azure.small import small  # noqa: F401
from tests.support.azure.watched import watched  # noqa: F401
